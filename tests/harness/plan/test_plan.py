"""`harness plan`: its numbers are those worked by hand, and its lines fit a terminal."""

import tomllib
from typing import Any

import pytest
import torch
import transformers

from harness.__main__ import main
from harness.config.resolve import PRESETS, resolve
from harness.config.schema import ModelSettings
from harness.config.task import TASKS
from harness.errors import UsageError
from harness.plan.job import Job, longest_prompt, make_job
from harness.plan.memory import Pass, held, layer_bytes, peaks, responses_at_once, rollout, trainer
from harness.plan.shapes import SHAPES, shape_from, shape_of
from harness.plan.text import shortages
from harness.randomness import stream
from harness.tasks.tiny import DEMONSTRATED
from tests.harness.command_line import outcome

KNOWN = tomllib.loads(SHAPES.read_text(encoding="utf-8"))
PLANNED = sorted(
    str(path.relative_to(PRESETS).with_suffix("")) for path in PRESETS.rglob("*.toml") if path.stem != "evaluation"
)


def job_of(preset: str, gpus: int, **flags: Any) -> Job:
    config = resolve(flags, preset=preset)
    return make_job(config, shape_of(config.model), gpus, 79.6)


@pytest.mark.parametrize("name", [*KNOWN, "tiny"])
def test_parameters_are_as_many_as_transformers_counts(name: str) -> None:
    shape = shape_of(ModelSettings(model=name))
    values = {"vocab_size": shape.vocabulary, "hidden_size": shape.hidden, "num_hidden_layers": shape.layers}
    values |= {"num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads}
    values |= {"intermediate_size": shape.intermediate, "tie_word_embeddings": shape.is_tied}
    with torch.device("meta"):
        config = transformers.AutoConfig.for_model(KNOWN.get(name, {}).get("model_type", "qwen2"), **values)
        model = transformers.AutoModelForCausalLM.from_config(config)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_numbers_worked_by_hand() -> None:
    small, large = (shape_from(KNOWN[f"Qwen/Qwen2.5-{size}"], size) for size in ("0.5B", "32B"))
    assert small.parameters == 494_032_768  # the model card says 0.49 billion
    assert large.cache_bytes(2) == 262_144  # 2 x 64 layers x 8 heads x 128 x 2 bytes
    # 16 x 896 + 2 (2 x 896 + 2 x 128 + 4 x 4864)
    assert layer_bytes(job_of("one-gpu/fipo-0.5b", 1, dtype="bfloat16", backend="deepspeed")) == 57_344
    fipo = job_of("recipe/fipo-32b", 128)
    share = -(-large.parameters // 128)  # 255,967,...: ZeRO-3 in bfloat16 is 2 + 4 + 12 bytes of each
    parts = held(fipo)
    assert [parts[name] for name in ("weights", "gradients", "optimizer")] == [2 * share, 4 * share, 12 * share]
    assert parts["DeepSpeed's buffers"] == 2 * 500_000_000
    # a row of 22,528 tokens: 64 layers' inputs, 5,120 x 2 bytes each, and behind them 8 x 5,120 bytes
    assert Pass(fipo).kept == 22_528 * (64 * 10_240 + 40_960)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_stages_spread_what_they_say(stage: int) -> None:
    one = job_of("recipe/fipo-7b", 8, zero_stage=stage, engine="torch", dtype="float32")
    parts, share = held(one), -(-one.shape.parameters // 8)
    assert parts["optimizer"] == 12 * share
    assert parts["weights"] == 4 * (share if stage == 3 else one.shape.parameters)
    gradients = trainer(one)[-2].parts["gradients"]
    assert gradients == 4 * (one.shape.parameters if stage == 1 else share)
    offloaded = job_of("recipe/fipo-7b", 8, zero_stage=stage, engine="torch", dtype="float32", offload="optimizer")
    assert held(offloaded)["optimizer"] == 0


def test_what_does_not_fit_is_said_with_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    one = job_of("one-gpu/fipo-0.5b", 1, gradient_checkpointing=False, micro_batch_tokens=2**16)
    (name, peak), *_ = [(name, moment) for name, moment in peaks(one).items() if moment.total > one.gpu_bytes]
    more = (peak.total - one.gpu_bytes) / 2**30
    said = f"{name} needs {peak.total / 2**30:.1f} of 79.6 GiB, {more:.1f} too much ({peak.when})"
    assert next(shortages(one)) == said
    words = ["--preset", "one-gpu/fipo-0.5b", "--gradient_checkpointing", "false", "--micro_batch_tokens", 2**16]
    found = outcome(main, ["plan", *words], capsys)
    assert (found.exit_code, len(found.errors)) == (1, 1)
    assert said in found.errors[0]
    fitting = job_of("one-gpu/fipo-0.5b", 1)
    assert all(moment.total <= fitting.gpu_bytes for moment in peaks(fitting).values())
    assert list(shortages(fitting)) == []


def test_32b_fits_128_gpus_as_its_authors_split_its_rollouts_and_not_otherwise() -> None:
    four = job_of("recipe/fipo-32b", 128)
    assert (four.split, list(shortages(four))) == (4, [])
    # of 32,763,876,352 parameters a quarter; 2 x 64 layers x 2 of 8 heads x 128 x 2 bytes for each of 22,528 tokens
    loading, checked = rollout(four)
    assert loading.parts["engine's weights"] == 2 * 8_190_969_088
    assert loading.parts["KV cache"] == 0 < checked.parts["KV cache"]  # vLLM makes room for it afterwards
    assert four.response_cache == 22_528 * 65_536
    assert responses_at_once(four) == pytest.approx((0.8 * 79.6 - 15.257 - 2) / 1.375, rel=1e-3)
    (said,) = shortages(job_of("recipe/fipo-32b", 128, rollout_tp=1, engine_memory=0.9))
    assert said.startswith("rollout needs ")
    with pytest.raises(UsageError, match="--gpus 66 does not divide by --rollout_tp 4"):
        job_of("recipe/fipo-32b", 66)
    with pytest.raises(UsageError, match="--rollout_tp 16: expected a divisor of the model's 40 attention heads"):
        job_of("recipe/fipo-32b", 128, rollout_tp=16)


def test_vllm_without_room_does_not_fit() -> None:
    one = job_of("recipe/fipo-7b", 64, engine_memory=0.2)
    assert all(moment.total <= one.gpu_bytes for moment in peaks(one).values())
    assert "vLLM has room for only 0.00 of a response" in next(shortages(one))
    # 0.6 x 79.6 GiB less 14.19 GiB of weights and 2 GiB; a response is 12,288 x 57,344 bytes = 0.656 GiB
    enough = job_of("recipe/fipo-7b", 64)
    assert responses_at_once(enough) == pytest.approx((0.6 * 79.6 - 14.185 - 2) / 0.65625, rel=1e-3)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_prompts_of_a_length(task: str) -> None:
    data = {"train_data": "a.jsonl", "eval_data": "b.jsonl"} if task == "math" else {}
    longest = longest_prompt(resolve({"task": task, "max_prompt_tokens": 40} | data))
    if task in DEMONSTRATED:
        prompts = [len(DEMONSTRATED[task].draw(stream("lengths", number)).prompt) for number in range(2000)]
        assert max(prompts) == longest
    else:
        assert longest == 40


def test_forward_passes_without_gradient() -> None:
    assert resolve({}).forwards_per_token == 1  # old log-probabilities
    assert resolve({"beta": 0.1, "epochs": 3}).forwards_per_token == 2  # and the reference's, once
    # and in each epoch the sequence filter's and the placebo's
    fipo = {"loss_type": "fipo", "delta": 10.0, "sequence_filter": True, "epochs": 2, "placebo": "sign_mean"}
    assert resolve(fipo).forwards_per_token == 5


@pytest.mark.parametrize("preset", PLANNED)
def test_every_preset_plans_within_a_terminals_width(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = outcome(main, ["plan", "--preset", preset], capsys)
    assert max(map(len, found.printed)) <= 110
    fits = found.printed[-1] == "Fits."
    assert (found.exit_code, len(found.errors)) == ((0, 0) if fits else (1, 1))


@pytest.mark.parametrize(("preset", "unit"), [("demo", "MiB"), ("one-gpu/fipo-0.5b", "GiB")])
def test_sizes_are_in_a_unit_in_which_they_can_be_read(
    preset: str, unit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, size = outcome(main, ["plan", "--preset", preset], capsys), {"MiB": 2**20, "GiB": 2**30}[unit]
    one = job_of(preset, 1)
    assert f"Memory per GPU, {unit}      rollout   trainer" in found.printed
    for part in ("weights", "optimizer", "activations"):
        row = "".join(f"{moment.parts.get(part, 0) / size:>10.2f}" for moment in peaks(one).values())
        assert f"  {part:<20}{row}" in found.printed
    assert f"{one.response_cache / size:.3g} {unit} per GPU" in " ".join(found.printed)


def test_a_folder_has_the_shape_of_its_config(model_folder: str, tmp_path: Any) -> None:
    assert shape_of(resolve({"model": model_folder}).model) == shape_of(ModelSettings(model="tiny"))
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}', encoding="utf-8")
    with pytest.raises(UsageError, match="expected a model of type qwen2"):
        shape_of(resolve({"model": str(tmp_path)}).model)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "nobody/nothing"], "hf download nobody/nothing config.json"),
        (["--gpus", "8"], "--gpus 8 needs --backend deepspeed"),
        (["--gpu_memory", "-1"], "--gpu_memory: expected a number above 0"),
        (["--model", "Qwen/Qwen2.5-Math-7B", "--max_response_tokens", "5000"], "--context_tokens"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = outcome(main, ["plan", *arguments], capsys)
    assert (found.exit_code, found.printed, len(found.errors)) == (2, [], 1)
    assert said in found.errors[0]
