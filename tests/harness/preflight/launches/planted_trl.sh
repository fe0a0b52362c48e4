accelerate launch --num_processes=2 --config_file zero2.yaml train_grpo.py --loss_type cispo \
    --num_generations 6 --generation_batch_size 64 --steps_per_generation 8 \
    --epsilon_low 0.2 --max-completion-length 4096 --per_device_train_batch_size 4 \
    --learning_rate 1e-6 --gradient_accumulation_steps 8
