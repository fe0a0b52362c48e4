megatron rlhf --rlhf_type grpo --loss_type fipo --beta 0 --lr 1e-6 \
    --global_batch_size 64 --generation_batch_size 256 --num_generations 8 --max_completion_length 8192 \
    --epsilon 3e-4 --epsilon_high 4e-4 --delta 4 --fipo_safety_threshold 4 $EXTRA
