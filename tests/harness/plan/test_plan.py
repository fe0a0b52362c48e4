"""`harness plan`: its numbers are those worked by hand, its changes make a run fit, its lines fit a terminal."""

import dataclasses
import tomllib
from typing import Any

import pytest
import torch
import transformers

from harness.algorithm.state import make_ledger
from harness.cli import plan
from harness.cli.parser import OneLineParser
from harness.config.resolve import PRESETS, resolve
from harness.errors import UsageError
from harness.model.policy import Policy
from harness.plan.activations import Pass, trainer_pass
from harness.plan.changes import changes_that_fit, with_flags
from harness.plan.cost import assumed, forward_passes, step_work
from harness.plan.job import GIB, Job, find_gpu, make_job
from harness.plan.memory import fits, held, memory_of, responses_at_once, trainer
from harness.plan.shapes import SHAPES, ModelShape, shape_from, shape_of, tiny_shape
from tests.harness.command_line import Outcome, outcome

KNOWN = tomllib.loads(SHAPES.read_text(encoding="utf-8"))
PLANNED = sorted(
    str(path.relative_to(PRESETS).with_suffix("")) for path in PRESETS.rglob("*.toml") if path.stem != "evaluation"
)


def job_of(preset: str, gpus: int, **flags: Any) -> Job:
    config = resolve(flags, preset=preset)
    return make_job(config, shape_of(config.model), gpus, find_gpu("h100"))


@pytest.mark.parametrize("name", [*KNOWN, "tiny"])
def test_parameters_are_as_many_as_transformers_counts(name: str) -> None:
    shape = tiny_shape() if name == "tiny" else shape_from(KNOWN[name], name)
    settings = transformers.Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.intermediate,
        tie_word_embeddings=shape.is_tied,
    )
    with torch.device("meta"):
        model = transformers.Qwen2ForCausalLM(settings)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_numbers_worked_by_hand() -> None:
    small, large = (shape_from(KNOWN[f"Qwen/Qwen2.5-{size}"], size) for size in ("0.5B", "32B"))
    assert small.parameters == 494_032_768  # the model card says 0.49 billion
    assert large.cache_bytes(2) == 262_144  # 2 x 64 layers x 8 heads x 128 x 2 bytes
    # 16 x 896 + 2 (2 x 896 + 2 x 128 + 4 x 4864) + 8 + 4 x 14
    assert Pass(small, 1, 1, 1, width=2).layer_bytes == 57_408
    assert Pass(small, 2, 1, 1, width=2).layer_bytes == 59_200  # 2 x 896 more, where several are gathered back
    fipo = job_of("recipe/fipo-32b", 128)
    share = -(-large.parameters // 128)  # 255,967,...: ZeRO-3 in bfloat16 is 2 + 2 + 12 bytes of each
    parts = held(fipo)
    assert [parts[name] for name in ("weights", "gradients", "optimizer")] == [2 * share, 2 * share, 12 * share]
    assert parts["DeepSpeed's buffers"] == 2 * 500_000_000
    # a row of 22,528 tokens: 64 layers' inputs, 5,120 x 2 bytes each
    kept = trainer_pass(fipo)
    assert kept.kept_bytes - kept.ends_bytes == 64 * 22_528 * 10_240


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_stages_spread_what_they_say(stage: int) -> None:
    one = job_of("recipe/fipo-7b", 8, zero_stage=stage, engine="torch")
    parts, share = held(one), -(-one.shape.parameters // 8)
    assert parts["optimizer"] == 12 * share
    assert parts["weights"] == 2 * (share if stage == 3 else one.shape.parameters)
    gradients = trainer(one)[0].parts["gradients"]
    assert gradients == 2 * (one.shape.parameters if stage == 1 else share)
    offloaded = job_of("recipe/fipo-7b", 8, zero_stage=stage, engine="torch", offload="optimizer")
    assert held(offloaded)["optimizer"] == 0


def test_the_published_layout_would_fit_and_ours_says_what_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    one = job_of("recipe/fipo-32b", 128)
    phases = memory_of(one).phases
    room = one.gpu.memory_gib * GIB
    assert {name: moment.total <= room for name, moment in phases.items()} == {
        "start": True,
        "rollout": False,
        "trainer": True,
    }
    printed = " ".join(planned(capsys, "--preset", "recipe/fipo-32b", "--gpus", 128).printed)
    assert "Does not fit: rollout needs" in printed
    assert "generation tensor parallel 4" in printed
    assert "It fits with" in printed


@pytest.mark.parametrize(
    "micro_batch", [{"micro_batch_size": 64, "micro_batch_tokens": None}, {"micro_batch_tokens": 2**16}]
)
def test_changes_make_it_fit_and_no_smaller_ones_do(micro_batch: dict[str, int | None]) -> None:
    one = job_of("one-gpu/fipo-0.5b", 1, group_size=64, gradient_checkpointing=False, **micro_batch)
    assert not fits(one)
    found = changes_that_fit(one, assumed(one.config, {}))
    assert found
    for change in found:
        changed = with_flags(one, change.flags)
        assert changed is not None
        assert fits(changed)
        for flag in change.flags:
            fewer = {name: value for name, value in change.flags.items() if name != flag}
            without = with_flags(one, fewer)
            assert without is not None
            assert not fits(without)


def test_a_change_that_the_settings_refuse_is_not_offered() -> None:
    one = job_of("one-gpu/fipo-0.5b", 1)
    assert with_flags(one, {"max_response_tokens": 128}) is None  # the overlong buffer is 512


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"beta": 0.1, "epochs": 3},
        {"loss_type": "fipo", "delta": 10.0, "sequence_filter": True, "epochs": 2, "fipo_placebo": "sign_mean"},
    ],
)
def test_forward_passes_are_the_ledgers(flags: dict[str, Any], random_policy: Policy) -> None:
    config = resolve(flags)
    assert forward_passes(config) == make_ledger(config, random_policy).forwards


def test_flops_and_hours_worked_by_hand() -> None:
    shape = ModelShape(100, 8, 2, 2, 1, 4, 16, 4096, is_tied=True)
    task = {"task": "math", "train_data": "a.jsonl", "eval_data": "b.jsonl", "prompts_per_step": 4, "group_size": 2}
    lengths = {"max_prompt_tokens": 10, "max_response_tokens": 100, "minibatches": 2}
    config = resolve(task | lengths | {"model": "small", "gradient_checkpointing": True})
    config = config.model_copy(update={"model": config.model.model_copy(update={"dtype": "bfloat16"})})
    gpu = dataclasses.replace(find_gpu("h100"), bfloat16_tflops=1e-3, float32_tflops=1e-4, bandwidth_tb_s=1e-6)
    given = {"mean_prompt_tokens": 10.0, "mean_response_tokens": 40.0, "compute_share": 0.5, "bandwidth_share": 0.5}
    drawing, scoring, updates = step_work(Job(config, shape, 1, gpu), assumed(config, given))
    # a layer: 8x8 + 8x4 + 8x4 + 8x8 + 3x8x16 + 8+4+4 + 16 = 608; in all 2x608 + 800 + 8 = 2,024
    assert (shape.layer_parameters, shape.parameters) == (608, 2024)
    # 8 rows of 50 tokens; attention 2 x 2 layers x 8 queries x 50 x 400 tokens = 640,000
    assert scoring.tokens == updates.tokens == 400
    assert scoring.flops == 2 * 2024 * 400 + 640_000
    # 6 per parameter, the layers' 2 again, attention 1 + 2 + 1
    assert updates.flops == 6 * 2024 * 400 + 2 * 1216 * 400 + 4 * 640_000
    # head, 320 response tokens: once and four times 2 x 800 x 320 at half of 1e8 a second; the rest at half of 1e9
    assert scoring.head_seconds == pytest.approx(512_000 / 5e7)
    assert scoring.seconds == pytest.approx((2 * 1216 * 400 + 640_000) / 5e8 + 512_000 / 5e7)
    assert updates.seconds == pytest.approx((8 * 1216 * 400 + 4 * 640_000) / 5e8 + 4 * 512_000 / 5e7)
    # 100 steps (the limit) read 2,024 x 2 bytes; 8 x 40 tokens have 30 of 32 bytes behind them
    launches = 100 * 2 * 0.6e-3
    assert drawing.tokens == 320
    assert drawing.seconds == pytest.approx((100 * 4048 + 320 * 30 * 32) / 5e5 + launches)


def test_room_for_responses_is_what_vllm_has_left() -> None:
    one = job_of("recipe/fipo-7b", 64)
    # 0.6 x 79.6 GiB less 14.19 GiB of weights and 2 GiB; a response is 12,288 x 57,344 bytes = 0.656 GiB
    assert responses_at_once(one) == pytest.approx((0.6 * 79.6 - 14.185 - 2) / 0.65625, rel=1e-3)


@pytest.mark.parametrize("preset", PLANNED)
def test_every_preset_plans_within_a_terminals_width(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, "--preset", preset)
    assert (found.exit_code, found.errors) == (0, [])
    assert max(map(len, found.printed)) <= 110
    assert any(line.startswith(("Fits.", "Does not fit: ")) for line in found.printed)


def test_a_folder_has_the_shape_of_its_config(model_folder: str, tmp_path: Any) -> None:
    assert shape_of(resolve({"model": model_folder}).model) == tiny_shape()
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}', encoding="utf-8")
    with pytest.raises(UsageError, match="expected a model of type qwen2"):
        shape_of(resolve({"model": str(tmp_path)}).model)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "nobody/nothing"], "hf download nobody/nothing config.json"),
        (["--gpus", "8"], "--gpus 8 needs --backend deepspeed"),
        (["--gpu", "b7"], "--gpu: expected one of h100, h200, a100"),
        (["--gpu_memory", "-1"], "--gpu_memory: expected a number above 0"),
        (["--mean_response_tokens", "100"], "must be at most --max_response_tokens 72"),
        (["--model", "Qwen/Qwen2.5-Math-7B", "--max_response_tokens", "5000"], "--context_tokens"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, *arguments)
    assert (found.exit_code, found.printed, len(found.errors)) == (2, [], 1)
    assert said in found.errors[0]


def planned(capsys: pytest.CaptureFixture[str], *arguments: object) -> Outcome:
    """The command as it would be called."""

    def main(words: list[str]) -> None:
        parser = OneLineParser(prog="python -m harness", allow_abbrev=False)
        plan.add(parser.add_subparsers())
        options = parser.parse_args(words)
        options.start(options)

    return outcome(main, ["plan", *arguments], capsys)
