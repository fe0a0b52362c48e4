"""`harness plan`: its bytes are those that this harness is seen to allocate, its numbers those worked by hand."""

import dataclasses
import time
import tomllib
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from harness.backend import checkpointing
from harness.command import OneLineParser
from harness.commands import plan
from harness.config import Config
from harness.errors import UsageError
from harness.lora import with_adapters
from harness.model_shapes import SHAPES, ModelShape, shape_from, shape_of, tiny_shape
from harness.plan_activations import Pass, trainer_pass
from harness.plan_changes import changes_that_fit, with_flags
from harness.plan_cost import assumed, forward_passes, step_work
from harness.plan_job import GIB, Job, find_gpu, make_job
from harness.plan_memory import CONTEXT, fits, held, memory_of, responses_at_once, rollout, trainer
from harness.policy import Policy, TokenBatch, response_logprobs
from harness.ranks import ALONE
from harness.sampler import Sampling, read_prompts, sample
from harness.settings import PRESETS, resolve
from harness.training import make_backend, make_ledger
from tests.harness.command_line import Outcome, outcome
from tests.harness.live_memory import LiveMemory

KNOWN = tomllib.loads(SHAPES.read_text(encoding="utf-8"))
PLANNED = sorted(
    str(path.relative_to(PRESETS).with_suffix("")) for path in PRESETS.rglob("*.toml") if path.stem != "evaluation"
)
SIZES: list[dict[str, Any]] = [
    {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 192},
    {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 8, "intermediate_size": 512},
]
CLOSE = 0.15  # of the measured bytes, as the issue asks; most are within 0.05


class PadsWithZero:
    """The one thing that a batch asks of a tokenizer."""

    pad_token_id = 0


def values_of(size: int, vocabulary: int = 500, is_tied: bool = True) -> dict[str, Any]:
    """A small Qwen2's config.json."""
    more = {"num_key_value_heads": 2, "max_position_embeddings": 4096, "tie_word_embeddings": is_tied}
    return SIZES[size] | more | {"vocab_size": vocabulary, "model_type": "qwen2"}


def network(values: dict[str, Any], dtype: torch.dtype = torch.float32) -> Any:
    """The model of those values with random weights."""
    settings = {name: value for name, value in values.items() if name != "model_type"}
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**settings)).to(dtype).eval()


def settings_of(prompt: int, response: int, **changes: Any) -> Config:
    """A run whose longest prompt and response are these."""
    lengths = {"max_prompt_tokens": prompt, "max_response_tokens": response}
    task = {"task": "math", "train_data": "a.jsonl", "eval_data": "b.jsonl"}
    return resolve(lengths | task | {"model": "small", "minibatches": 2} | changes)


def job_of(preset: str, gpus: int, **flags: Any) -> Job:
    config = resolve(flags, preset=preset)
    return make_job(config, shape_of(config.model), gpus, find_gpu("h100"))


def random_batch(rows: int, prompt: int, response: int, is_padded: bool) -> TokenBatch:
    tokens = torch.randint(500, (rows, prompt + response))
    seen = torch.ones_like(tokens)
    seen[0, : 3 * is_padded] = 0
    return TokenBatch(tokens, seen, seen[:, prompt:].bool())


def is_close(planned: float, measured: float) -> bool:
    return abs(planned - measured) <= CLOSE * measured


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


def test_adapters_are_as_many_as_peft_makes() -> None:
    values = values_of(0)
    policy = Policy(network(values), None, frozenset({0}))
    config = settings_of(8, 8, lora_rank=4)
    made = sum(p.numel() for p in with_adapters(policy, config.model).model.parameters() if p.requires_grad)
    assert shape_from(values, "small").adapters(4) == made


def test_numbers_worked_by_hand() -> None:
    small, large = (shape_from(KNOWN[f"Qwen/Qwen2.5-{size}"], size) for size in ("0.5B", "32B"))
    assert small.parameters == 494_032_768  # the model card says 0.49 billion
    assert large.cache_bytes(2) == 262_144  # 2 x 64 layers x 8 heads x 128 x 2 bytes
    # 16 x 896 + 2 (2 x 896 + 2 x 128 + 4 x 4864) + 8 + 4 x 14
    assert Pass(small, 1, 0, 1, width=2).layer_bytes == 57_408
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


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("response", [48, 96])
@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("changes", [{}, {"dtype": "bfloat16"}, {"lora_rank": 4}])
@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_a_pass_keeps_what_autograd_saves(
    rows: int, response: int, size: int, changes: dict[str, Any], is_checkpointed: bool
) -> None:
    """Counted: distinct storages, parameters left out. On a GPU flash attention keeps the same; see the module."""
    values, is_padded = values_of(size), rows > 1
    config = settings_of(16, response, micro_batch_size=rows, gradient_checkpointing=is_checkpointed, **changes)
    policy = Policy(network(values, getattr(torch, config.model.dtype)), None, frozenset({0}))
    policy = with_adapters(policy, config.model)
    make_backend(config, policy, ALONE)
    own = {parameter.untyped_storage().data_ptr() for parameter in policy.model.parameters()}
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = random_batch(rows, 16, response, is_padded)
    with checkpointing(policy.model), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = response_logprobs(policy, batch, 1.0)
    one = trainer_pass(make_job(config, shape_from(values, "small"), 1, find_gpu("h100")))
    assert kept[0].requires_grad
    # a checkpoint holds what all layers share as arguments, where no hook sees it
    assert is_close(one.kept_bytes - is_checkpointed * one.shared_bytes, sum(saved.values()))


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("changes", [{}, {"lora_rank": 8}])
@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_the_trainers_peak_is_what_lives_at_most(
    rows: int, is_tied: bool, dtype: str, changes: dict[str, Any], is_checkpointed: bool
) -> None:
    """Two optimizer steps of two micro-batches; the second step's, when the moments exist, without a GPU's context."""
    values, response = values_of(1, 2000, is_tied), 320 // rows
    sizes = {"micro_batch_size": rows, "prompts_per_step": 2, "group_size": 2 * rows}
    config = settings_of(48, response, dtype=dtype, gradient_checkpointing=is_checkpointed, **sizes, **changes)
    policy = Policy(network(values, getattr(torch, dtype)), None, frozenset({0}))
    policy = with_adapters(policy, config.model)
    backend = make_backend(config, policy, ALONE)
    with LiveMemory(policy.model.parameters()) as live:
        for _ in range(2):
            backend.zero_grad()
            live.peak = live.now
            for is_last in (False, True):
                logprobs, _ = backend.logprobs(random_batch(rows, 48, response, rows > 1), 1.0)
                backend.backward(logprobs.mean(), is_last)
            del logprobs
            passes, live.peak = live.peak, live.now
            backend.step(backend.gradient_norm())
    *planned, step = trainer(make_job(config, shape_from(values, "small"), 1, find_gpu("h100")))
    assert is_close(max(moment.total for moment in planned) - CONTEXT, passes)
    assert is_close(step.total - CONTEXT, live.peak)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("vocabulary", "response", "top_p"), [(200, 200, 1.0), (8000, 48, 1.0), (8000, 48, 0.7)])
def test_the_samplers_peak_is_what_lives_at_most(dtype: str, vocabulary: int, response: int, top_p: float) -> None:
    """All responses run to the limit, behind prompts of several lengths: the longest that a round can be."""
    values = values_of(1, vocabulary)
    config = settings_of(48, response, dtype=dtype, prompts_per_step=4, group_size=8, eval_top_p=top_p)
    model = network(values, getattr(torch, dtype))
    policy = Policy(model, PadsWithZero(), frozenset({vocabulary}))
    with LiveMemory(model.parameters()) as live:
        uniforms = np.random.default_rng(0).random((32, response))
        samples = sample(
            policy, [[1] * length for length in (30, 48, 40, 48)], uniforms, Sampling(response, 1.0, top_p)
        )
    assert all(one.truncated for one in samples)
    drawn = rollout(make_job(config, shape_from(values, "small"), 1, find_gpu("h100")))
    beside = ("gradients", "optimizer", "CUDA context")  # no step has been made here
    planned = [sum(size for part, size in moment.parts.items() if part not in beside) for moment in drawn]
    assert is_close(max(planned), live.peak)


def test_keys_and_values_are_as_many_as_the_cache_holds() -> None:
    values = values_of(0)
    policy = Policy(network(values), PadsWithZero(), frozenset({0}))
    cache, _, _ = read_prompts(policy, [[1] * 24, [1] * 20], per_prompt=3)
    held_bytes = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert held_bytes == 6 * 24 * shape_from(values, "small").cache_bytes(4)


@pytest.mark.parametrize("changes", [{}, {"dtype": "bfloat16"}, {"dtype": "bfloat16", "lora_rank": 4}])
def test_the_optimizer_is_as_large_as_adamws_moments(changes: dict[str, Any]) -> None:
    values, config = values_of(0), settings_of(8, 8, **changes)
    policy = with_adapters(Policy(network(values, getattr(torch, config.model.dtype)), None, frozenset()), config.model)
    backend = make_backend(config, policy, ALONE)
    backend.backward(backend.logprobs(random_batch(2, 8, 8, False), 1.0)[0].sum(), is_last=True)
    backend.step(backend.gradient_norm())
    moments = [tensor for name, tensor in backend.state()[1].items() if not name.endswith("/step")]
    planned = held(make_job(config, shape_from(values, "small"), 1, find_gpu("h100")))
    assert planned["optimizer"] == sum(tensor.nbytes for tensor in moments)
    assert planned["weights"] == sum(parameter.nbytes for parameter in policy.model.parameters())


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


def test_changes_make_it_fit_and_no_smaller_ones_do() -> None:
    one = job_of("one-gpu/fipo-0.5b", 1, group_size=64, gradient_checkpointing=False, micro_batch_size=64)
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
    config = settings_of(10, 100, prompts_per_step=4, group_size=2, dtype="bfloat16", gradient_checkpointing=True)
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
    # 100 steps (the limit) read 2,024 x 2 bytes; 8 x 40 tokens have 30 of 32 bytes behind them, moved 3 + 2 x 2 times
    launches = 100 * 2 * 0.6e-3
    assert drawing.tokens == 320
    assert drawing.seconds == pytest.approx((100 * 4048 + 320 * 30 * 32 * 7) / 5e5 + launches)


def test_room_for_responses_is_what_vllm_has_left() -> None:
    one = job_of("recipe/fipo-7b", 64)
    # 0.6 x 79.6 GiB less 14.19 GiB of weights and 2 GiB; a response is 12,288 x 57,344 bytes = 0.656 GiB
    assert responses_at_once(one) == pytest.approx((0.6 * 79.6 - 14.185 - 2) / 0.65625, rel=1e-3)


@pytest.mark.parametrize("preset", PLANNED)
def test_every_preset_plans_within_a_terminals_width(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    begin = time.perf_counter()
    found = planned(capsys, "--preset", preset)
    assert (found.exit_code, found.errors) == (0, [])
    assert time.perf_counter() - begin < 10
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
