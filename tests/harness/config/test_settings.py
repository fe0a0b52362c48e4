import json
from pathlib import Path

import pytest

from harness.config.loss import DEFAULT_AVERAGING, LOSS_TYPES, AdvantageScale, Averaging, LossSettings
from harness.config.resolve import PRESETS, config_sha256, flatten, resolve, resolve_tree, tree_of
from harness.config.schema import Config, section_of
from harness.errors import UsageError
from losses import LOSSES
from losses.parts import advantages, averaging

# a value for every setting that is not its default, as the command line spells it
OTHER_WORDS = """
seed=3 steps=7 token_budget=1000 threads=2 record_rollouts=none output_dir=elsewhere model=owner/name model_seed=5
dtype=bfloat16 task=math wrong_reward=-0.5 overlong_filter=true train_data=dapo-math-17k eval_data=aime24,aime25
prompt_template=plain answer_format=boxed prompt_date=2024-07-26 max_prompt_tokens=512 context_tokens=32768
prompts_per_round=32 overlong_buffer=12 overlong_factor=0.5 control=random_reward checkpoint_every=3
give_up_after=7 model_revision=0123abc skip_nonfinite=2 device=cpu lora_rank=8 lora_alpha=32
gradient_checkpointing=true engine=vllm engine_memory=0.3 rollout_tp=2 sync_tolerance=0.01 sampler_correction=truncate
sampler_correction_cap=3.0 backend=deepspeed nproc=2 zero_stage=3 offload=all zero_bucket_size=1000
phase_deadline_s=60.0 prompts_per_step=16 group_size=4 max_response_tokens=64 temperature=0.7
dynamic_sampling=true max_sampling_rounds=5 unfilled=stop loss_type=fipo averaging=constant epsilon=0.1
epsilon_high=0.28 delta=10.0 beta=0.04 log_ratio_clamp=20.0 sequence_filter=true advantage_scale=none
advantage_std_eps=0.0001 fipo_decay_rate=16.0 fipo_clip_range=0.3 fipo_clip_high_only=false
fipo_safety_threshold=10.0 fipo_filter_in_log_space=true fipo_weight_bound=9.0 fipo_signed=true
placebo=sign_mean gspo_epsilon_low=0.1 gspo_epsilon_high=0.1 gspo_token_level=true cispo_ratio_max=1.2
cispo_ratio_min=0.8 sapo_tau_positive=2.0 sapo_tau_negative=2.0 dppo_divergence=kl dppo_threshold_high=0.1
dppo_threshold_low=0.1 dppo_ratio_max=20.0 gmpo_log_clip_low=0.2 gmpo_log_clip_high=0.2 vespo_k_positive=1.5
vespo_lambda_positive=2.5 vespo_k_negative=4.0 vespo_lambda_negative=2.5 lr=0.001 warmup_steps=0 weight_decay=0.0
grad_clip=0.5 minibatches=4 epochs=2 micro_batch_size=2 noise_tolerance=0.5 allow_inert=true eval_every=5
eval_prompts=64 eval_split=tune eval_samples=2 final_evaluations=1 final_eval_samples=16 eval_temperature=0.5
eval_top_p=0.7 reward=mine.py:correct=1,short=0.5
"""
OTHER: dict[str, str] = dict(word.split("=", 1) for word in OTHER_WORDS.split())
# instead of WITHOUT: both at once are refused
INSTEAD = {"micro_batch_tokens": "4096", "task_settings": '{"largest":20}', "start_from": "elsewhere/state"}
WITHOUT = {"micro_batch_size": None, "train_data": None, "eval_data": None, "task": "mine.py:Mine"}
WITHOUT |= {"lora_rank": None, "lora_alpha": None, "backend": "torch", "nproc": "1", "rollout_tp": "1", "beta": "0.0"}
WITHOUT |= {"dtype": "float32"}


def spelled(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_every_setting_is_recorded_as_it_was_requested() -> None:
    assert OTHER.keys() | INSTEAD.keys() == section_of().keys()
    defaults = flatten(tree_of(Config()))
    for requested in (OTHER | dict.fromkeys(INSTEAD), OTHER | INSTEAD | WITHOUT):
        recorded = flatten(tree_of(resolve(requested)))
        assert {name: spelled(value) for name, value in recorded.items()} == {
            name: spelled(value) for name, value in requested.items()
        }
        other = [name for name, value in requested.items() if value not in (None, WITHOUT.get(name))]
        assert [name for name in other if recorded[name] == defaults[name]] == []


@pytest.mark.parametrize("preset", sorted(str(path.relative_to(PRESETS)) for path in PRESETS.rglob("*.toml")))
def test_shipped_presets_load_by_name_and_as_files(preset: str) -> None:
    config = resolve({}, preset.removesuffix(".toml"))
    assert config == resolve({}, str(PRESETS / preset))
    assert config != Config()


def test_flags_win_over_the_file_and_the_file_over_the_preset(tmp_path: Path) -> None:
    preset, file = tmp_path / "preset.toml", tmp_path / "file.toml"
    preset.write_text("steps = 3\nlr = 0.1\nseed = 1", encoding="utf-8")
    file.write_text("[run]\nsteps = 4\n[optimizer]\nlr = 0.2", encoding="utf-8")
    config = resolve({"steps": "5"}, str(preset), str(file))
    assert (config.run.steps, config.optimizer.lr, config.run.seed) == (5, 0.2, 1)
    assert resolve({}, "demo").loss.delta == 10.0
    assert resolve({"delta": None}, "demo").loss.delta is None  # a flag takes back what the preset set


@pytest.mark.parametrize(
    ("flags", "averaging", "epsilon_high"),
    [
        ({}, "sequence_mean", 0.2),
        ({"loss_type": "dapo"}, "token_mean", 0.2),
        ({"loss_type": "fipo", "epsilon": "0.3"}, "token_mean", 0.3),
        ({"loss_type": "fipo", "averaging": "constant", "epsilon_high": "0.28"}, "constant", 0.28),
    ],
)
def test_defaults_that_depend_are_written_out(flags: dict[str, str], averaging: str, epsilon_high: float) -> None:
    loss = tree_of(resolve(flags))["loss"]
    assert (loss["averaging"], loss["epsilon_high"]) == (averaging, epsilon_high)


def test_every_field_of_a_loss_is_a_setting_with_the_losss_default() -> None:
    assert tuple(LOSSES) == LOSS_TYPES
    assert (Averaging, AdvantageScale) == (averaging.Averaging, advantages.AdvantageScale)
    for name, loss in LOSSES.items():
        settings = LossSettings(loss_type=name)
        assert settings.loss_fields() == vars(loss())
        own = {flag for flag in LossSettings.model_fields if flag.startswith(f"{name}_")}
        assert own - {settings.flag(field) for field in vars(loss())} == set()


def test_a_loss_without_a_default_averaging_must_be_given_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(DEFAULT_AVERAGING, "dapo")
    with pytest.raises(UsageError, match=r"--averaging: expected 'token_mean', .*, got None"):
        resolve({"loss_type": "dapo"})
    assert resolve({"loss_type": "dapo", "averaging": "constant"}).loss.averaging == "constant"


def test_hash_is_that_of_every_setting_but_the_output_folder() -> None:
    same = {"loss_type": "fipo", "prompts_per_step": 32, "minibatches": 8}
    same |= {"backend": "deepspeed", "zero_stage": 3, "engine": "vllm", "task": "math"}
    base = same | {"delta": 5.0, "lora_rank": 4}
    hashes = {name: config_sha256(resolve(base | {name: value})) for name, value in OTHER.items() if name not in same}
    assert hashes.pop("output_dir") == config_sha256(resolve(base))
    assert config_sha256(resolve(base)) not in hashes.values()
    assert len(set(hashes.values())) == len(hashes)


def test_a_recorded_config_reads_back_as_itself(tmp_path: Path) -> None:
    from harness.run.record import RunFolder

    config = resolve(OTHER | {"reward": None})
    folder = RunFolder.create(tmp_path / "run", config, {}, None)
    assert resolve({}, config_file=str(folder.path / "config.json")) == config


def test_inert_fipo_needs_leave() -> None:
    flags = {"loss_type": "fipo", "minibatches": 1}
    assert resolve(flags | {"allow_inert": "true"}).updates_per_rollout == 1
    assert resolve(flags | {"epochs": 2}).updates_per_rollout == 2


@pytest.mark.parametrize("flag", ["advantage_scale", "control", "record_rollouts"])
@pytest.mark.parametrize("value", ["none", None])
def test_none_is_a_choice_where_there_is_one(flag: str, value: str | None) -> None:
    tree = flatten(tree_of(resolve({flag: value})))
    assert tree[flag] == "none"


def test_a_setting_that_older_versions_recorded_is_left_out(tmp_path: Path) -> None:
    tree = tree_of(Config()) | {"backend": tree_of(Config())["backend"] | {"hostfile": None}}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(tree), encoding="utf-8")
    assert resolve_tree(tree, file) == resolve({}, config_file=str(file)) == Config()
    with pytest.raises(UsageError, match="unknown key 'hostfile'"):  # it would have no effect
        resolve({"hostfile": "hosts"})


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"nproc": "2", "backend": "torch"}, "--nproc 2 needs --backend deepspeed"),
        ({"zero_stage": "0"}, "--zero_stage: expected greater than or equal to 1"),
        ({"offload": "all", "zero_stage": "2"}, "--offload all needs --zero_stage 3, got 2"),
        ({"rollout_tp": "2", "backend": "deepspeed"}, "--rollout_tp 2 needs --engine vllm and --backend deepspeed"),
        (
            {"rollout_tp": "2", "engine": "vllm", "backend": "torch"},
            "--rollout_tp 2 needs --engine vllm and --backend deepspeed",
        ),
        ({"temperature": "2.5", "engine": "vllm"}, "--temperature 2.5 with --engine vllm"),
        ({"eval_temperature": "0.005", "engine": "vllm"}, "--eval_temperature 0.005 with --engine vllm"),
        ({"sampler_correction": "truncate"}, "would count the same weights twice"),
        ({"lora_alpha": "8"}, "--lora_alpha needs --lora_rank"),
    ],
)
def test_settings_that_do_not_go_together(flags: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        resolve({"backend": "deepspeed"} | flags)
