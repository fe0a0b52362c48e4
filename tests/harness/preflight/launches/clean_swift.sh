NPROC_PER_NODE=8 swift rlhf --rlhf_type grpo --model Qwen/Qwen2.5-7B --dataset AI-MO/NuminaMath-TIR \
    --reward_funcs accuracy --tuner_type full --learning_rate 1e-6 --beta 0.04 --temperature 1.0 \
    --per_device_train_batch_size 8 --gradient_accumulation_steps 2 --num_iterations 4 --num_generations 16 \
    --max_completion_length 4096 --loss_type dapo --epsilon_high 0.28 --delta 10
