# Nothing is wrong here: arrays, a condition, an environment, comments and quotes that must not be stumbled over.
set -euo pipefail
export VLLM_USE_V1=1
MODEL=${MODEL:-Qwen/Qwen2.5-7B}   # a default
if [ "${WITH_LOGGER:-no}" = "yes" ]; then
  LOGGER='["console","wandb"]'
else
  LOGGER='["console"]'
fi
cat > note.txt <<'EOF'
python3 -m verl.trainer.main_ppo algorithm.adv_estimator=gae
EOF
DATA=(
  data.train_files="$HOME/data/train.parquet"
  data.train_batch_size=512  # prompts
  data.max_prompt_length=2048
  data.max_response_length=20480
)
DATA+=("data.shuffle=True")
RATE="actor_rollout_ref.actor.optim.lr=1e-6 actor_rollout_ref.actor.optim.lr_warmup_steps=10"
python3 -m verl.trainer.main_ppo "${DATA[@]}" $RATE \
  algorithm.adv_estimator=grpo algorithm.filter_groups.enable=True algorithm.filter_groups.metric=acc \
  actor_rollout_ref.model.path="$MODEL" \
  actor_rollout_ref.rollout.n=16 actor_rollout_ref.actor.use_dynamic_bsz=True \
  actor_rollout_ref.actor.ppo_mini_batch_size=$((512 / (4 * 2))) \
  actor_rollout_ref.actor.clip_ratio_low=0.2 actor_rollout_ref.actor.clip_ratio_high=0.28 \
  actor_rollout_ref.actor.clip_ratio_c=10.0 \
  trainer.logger="$LOGGER" trainer.experiment_name="dapo, 7B" "$@" 2>&1 | tee log.txt
