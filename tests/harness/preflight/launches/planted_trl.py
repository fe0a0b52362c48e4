"""A GRPOConfig with planted faults; it is read and not run."""

from trl import GRPOConfig

STEPS = 8
config = GRPOConfig(
    output_dir="runs",
    importance_sampling_level="sequence",
    epsilon=0.2,
    epsilon_high=0.1,
    delta=1.05,
    num_generations=6,
    per_device_train_batch_size=4,
    gradient_accumulation_steps=2,
    steps_per_generation=STEPS,
    mask_truncated_completions=True,
    sapo_temperature_pos=2.0,
)
