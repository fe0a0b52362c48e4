python3 -m verl.trainer.main_ppo \
    algorithm.adv_estimator=grpo \
    data.train_batch_size=256 \
    actor_rollout_ref.actor.ppo_mini_batch_size=256 actor_rollout_ref.actor.use_dynamic_bsz=True \
    actor_rollout_ref.actor.clip_ratio=0.3 \
    actor_rollout_ref.actor.clip_ratio_high=0.28 \
    +actor_rollout_ref.actor.policy_loss.tau_pos=1.0 \
    actor_rollout_ref.actor.tau_neg=2.0 \
    actor_rollout_ref.actor.kl_loss_coef=0.001 \
    actor_rollout_ref.actor.optim.lr=1e-6 \
    actor_rollout_ref.actor.los_agg_mode=seq-mean-token-mean \
    # eight responses for each prompt
    actor_rollout_ref.rollout.n=8 \
    actor_rollout_ref.rollout.temperature=1.0
