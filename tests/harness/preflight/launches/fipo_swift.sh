# The settings of ms-swift's example of FIPO.
CUDA_VISIBLE_DEVICES=2 \
swift rollout \
    --model Qwen/Qwen2.5-1.5B-Instruct

NPROC_PER_NODE=2 \
CUDA_VISIBLE_DEVICES=0,1 \
swift rlhf \
    --rlhf_type grpo \
    --model Qwen/Qwen2.5-1.5B-Instruct \
    --dataset 'AI-MO/NuminaMath-TIR' \
    --reward_funcs accuracy \
    --tuner_type full \
    --max_completion_length 4096 \
    --per_device_train_batch_size 8 \
    --learning_rate 1e-6 \
    --gradient_accumulation_steps 2 \
    --num_generations 8 \
    --temperature 1.0 \
    --system """You are helpful; the answer stands in \\boxed{}.""" \
    --num_iterations 3 \
    --sequence_parallel_size 2 \
    --beta 0 \
    --dynamic_sample true \
    --loss_type fipo \
    --delta 10.0 \
    --epsilon_high 0.28 \
    --fipo_decay_rate 32 \
    --fipo_clip_range 0.2 \
    --fipo_clip_high_only false \
    --fipo_safety_threshold 3.0
