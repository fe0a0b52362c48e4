"""What other trainers call our settings: names for the same quantity, and answers where theirs is another one."""

# TRL and ms-swift, then verl. `--learning_rate 1e-6` is `--lr 1e-6`, in files and presets too.
ALSO = {
    "lr": ("learning_rate",),
    "group_size": ("num_generations",),
    "max_response_tokens": ("max_completion_length",),
    "max_prompt_tokens": ("max_prompt_length",),
    "epochs": ("num_iterations", "ppo_epochs"),
    "grad_clip": ("max_grad_norm",),
    "model": ("model_name_or_path",),
    "dynamic_sampling": ("dynamic_sample",),
    "overlong_filter": ("mask_truncated_completions",),
    "epsilon": ("clip_ratio_low",),
    "epsilon_high": ("clip_ratio_high",),
    "delta": ("clip_ratio_c",),
    "placebo": ("fipo_placebo",),  # its name until other losses had placebos too
}
OURS = {theirs: name for name, others in ALSO.items() for theirs in others}

# Where a number cannot be taken over as it is: what to write here.
STEPS = "theirs counts optimizer steps, ours rounds of rollouts"
ANSWERS = {
    "per_device_train_batch_size": "a step has --prompts_per_step x --group_size responses, --micro_batch_size a pass",
    "generation_batch_size": "a step samples --prompts_per_step x --group_size responses",
    "gradient_accumulation_steps": "--minibatches sets the updates per step, --micro_batch_size what passes at once",
    "steps_per_generation": "--minibatches sets the updates per round of rollouts",
    "num_train_epochs": "a run is --steps long",
    "max_steps": f"--steps ({STEPS})",
    "save_steps": f"--checkpoint_every ({STEPS})",
    "eval_steps": f"--eval_every ({STEPS})",
    "logging_steps": "every step is recorded",
    "report_to": "every run is recorded in its folder, and the command ui shows all of them in MLflow",
    "warmup_ratio": "--warmup_steps",
    "lr_scheduler_type": "the rate is constant after --warmup_steps",
    "scale_rewards": "--advantage_scale group, batch or none",
    "loss_agg_mode": "--averaging token_mean, sequence_mean, constant or sequence_sum",
    "kl_coef": "--beta",
    "bf16": "--dtype bfloat16",
    "use_vllm": "--engine vllm",
    "deepspeed": "--backend deepspeed --zero_stage N",
    "reward_funcs": "--reward FILE.py:NAME=WEIGHT,...",
    "dataset": "--train_data FILE",
    "top_p": "training never truncates sampling, which would bias the ratio; evaluations have --eval_top_p",
    "top_k": "training never truncates sampling, which would bias the ratio",
}
