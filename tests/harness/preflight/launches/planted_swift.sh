swift rlhf \
    --rlhf_type grpo \
    --model Qwen/Qwen2.5-7B \
    --loss_type fipo \
    --fipo_safety_threshold 10 \
    --fipo_clip_range 0 \
    --tau_pos 2.0 \
    --num_generations 4 --per_device_train_batch_size 4 \
    --overlong_filter true
