"""Models of other people: what they bring is trained, sampled and saved as it should be, or refused in one line."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers

from harness.algorithm.update import known_logprobs
from harness.config.schema import Config, ModelSettings
from harness.errors import UsageError
from harness.model.lora import check_export, exported, with_adapters
from harness.model.packing import pack_batch
from harness.model.policy import Policy, load_policy, write_policy
from harness.resume import resume
from harness.rollouts.engine import own_engine
from harness.rollouts.sampler import Sampling, sample
from harness.run.initial_model import initial_policy, pretrained_policy
from tests.harness import runs
from tests.harness.algorithm.steps import one_minibatch, stepped
from tests.harness.backends.pairings import stop_after
from tests.harness.model.networks import change_json, save_network
from tests.harness.model.test_architectures import EXACT
from tests.harness.tasks import math_material as material
from tests.harness.tiny import small_config

PROMPT = "What is 1 + 1?"


def math_config(folder: Path, model: str, **changes: Any) -> Config:
    lengths = {"max_prompt_tokens": 400, "max_response_tokens": 8}
    return small_config(model, task="math", **material.data_files(folder), **lengths | changes)


@torch.no_grad()
def logprobs(policy: Policy) -> torch.Tensor:
    prompts = [[5, 6, 7], [5, 6, 7], [9, 8, 7, 6, 5]]
    return policy.logprobs(pack_batch(prompts, [[8, 9, 10], [11, 12], [10] * 6], policy.device), 1.0)[0]


def saved(folder: Path, policy: Policy, weights: dict[str, torch.Tensor] | None = None) -> Path:
    """A folder within this one with the policy in it."""
    (folder / "saved").mkdir()
    write_policy(folder / "saved", policy, weights)
    return folder / "saved"


# ---- saving


@pytest.mark.parametrize(
    "sampling",
    [{"temperature": 0.6, "top_p": 0.9}, {"top_k": 5, "do_sample": False}, {"num_beams": 1, "length_penalty": 2.0}],
)
def test_a_generation_config_that_transformers_would_not_save_is_kept(tmp_path: Path, sampling: dict[str, Any]) -> None:
    save_network(tmp_path / "model")
    change_json(tmp_path / "model" / "generation_config.json", **sampling)
    policy = load_policy(str(tmp_path / "model"))
    with pytest.raises(ValueError, match="is invalid"):
        policy.model.generation_config.save_pretrained(tmp_path)
    folder = saved(tmp_path, policy)
    assert runs.read_json(folder / "generation_config.json").items() >= sampling.items()
    assert torch.equal(logprobs(load_policy(str(folder))), logprobs(policy))


@pytest.mark.train
def test_such_a_model_is_trained_stopped_and_resumed(tmp_path: Path) -> None:
    material.save_model(tmp_path / "model")
    change_json(tmp_path / "model" / "generation_config.json", temperature=0.6, top_p=0.9)
    config = math_config(tmp_path, str(tmp_path / "model"), steps=3, checkpoint_every=1, give_up_after=None)
    with pytest.raises(Exception, match="stopped after 2 steps"):
        runs.train(config, tmp_path / "run", stop_after(2))
    shutil.rmtree(tmp_path / "model")  # nothing that is saved later comes from there
    resume(tmp_path / "run", runs.ignore)
    assert (tmp_path / "run" / "checkpoints" / "final" / "generation_config.json").is_file()


def test_a_tokenizer_that_cannot_be_saved_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_network(tmp_path)

    def fails(*_: object, **__: object) -> None:
        raise OSError("its vocabulary file is gone")

    monkeypatch.setattr(transformers.PreTrainedTokenizerFast, "save_pretrained", fails)
    with pytest.raises(UsageError, match=r"^--model: expected a model that can be saved.*vocabulary file is gone$"):
        load_policy(str(tmp_path))


# ---- adapters


@pytest.mark.parametrize("kind", ["qwen2", "gpt2 with dropout", "experts", "mixtral", "latent attention"])
def test_what_is_written_is_what_was_trained(kind: str, tmp_path: Path) -> None:
    model = save_network(tmp_path / "model", kind)
    policy = with_adapters(load_policy(model), ModelSettings(lora_rank=2))
    check_export(policy, ModelSettings(lora_rank=2))
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    assert (logprobs(policy) - logprobs(load_policy(model))).abs().max() > 0.01
    again = load_policy(str(saved(tmp_path, policy, dict(exported(policy.model)))))
    assert (logprobs(policy) - logprobs(again)).abs().max() < 1e-4


def test_adapters_that_would_not_be_written_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper, policy = peft.tuners.lora.layer.ParamWrapper, load_policy(save_network(tmp_path, "experts"))
    whole = wrapper.get_delta_weight
    monkeypatch.setattr(wrapper, "get_delta_weight", lambda layer, adapter: 0.5 * whole(layer, adapter))
    with pytest.raises(UsageError, match=r"^--lora_rank 2: expected a model whose output is unchanged when adapters"):
        check_export(with_adapters(policy, ModelSettings(lora_rank=2)), ModelSettings(lora_rank=2))


@pytest.mark.parametrize("beside", [True, False])
def test_adapter_files_are_refused(beside: bool, tmp_path: Path) -> None:
    save_network(tmp_path / "model")
    adapted = peft.get_peft_model(
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model"),
        peft.LoraConfig(r=2, target_modules=["q_proj"]),
    )
    adapted.save_pretrained(tmp_path / ("model" if beside else "adapter"))
    with pytest.raises(UsageError, match=r"^--model: expected a plain model, got .*merge them into the weights first"):
        load_policy(str(tmp_path / ("model" if beside else "adapter")))


# ---- what depends on other texts, on training mode, on the day


@pytest.mark.parametrize("kind", ["longrope", "yarn", "dynamic rope"])
@pytest.mark.parametrize("longest", [1, 100])
def test_sampler_and_trainer_agree_whatever_stands_beside(kind: str, longest: int, tmp_path: Path) -> None:
    policy = load_policy(save_network(tmp_path, kind), longest=longest)
    prompt, batch = policy.encode(PROMPT), policy.device
    drawn = sample(policy, [prompt], np.random.default_rng(0).random((4, 40)), Sampling(40))
    with torch.no_grad():
        scored, _ = policy.logprobs(pack_batch([prompt] * 4, [one.tokens for one in drawn], batch), 1.0)
        for row, one in enumerate(drawn):
            assert (scored[row, : len(one.tokens)] - torch.tensor(one.logprobs)).abs().max() < 1e-3
        alone, _ = policy.logprobs(pack_batch([[5] * 10], [[7, 8, 9]], batch), 1.0)
        beside, _ = policy.logprobs(pack_batch([[5] * 10, [6] * 60], [[7, 8, 9], [7] * 60], batch), 1.0)
    assert (alone[0, :3] - beside[0, :3]).abs().max() < 1e-4


@pytest.mark.parametrize("kind", ["longrope", "dynamic rope"])
def test_rotary_frequencies_are_those_of_the_longest_text(kind: str, tmp_path: Path) -> None:
    model = save_network(tmp_path, kind)
    short, long = load_policy(model, longest=20), load_policy(model, longest=100)
    text = torch.tensor([[5, 6, 7] * 20])
    assert (logprobs(short) - logprobs(long)).abs().max() > 0.01
    with torch.no_grad():  # transformers' own choice for a text beyond the switch, made by the length of the batch
        own = transformers.AutoModelForCausalLM.from_pretrained(model)(text).logits[0].log_softmax(-1)
        ours, _ = load_policy(model, longest=60).logprobs(
            pack_batch([text[0, :3].tolist()], [text[0, 3:].tolist()], text.device), 1.0
        )
    assert (ours[0] - own[2:-1].gather(1, text[0, 3:, None])[:, 0]).abs().max() < 1e-4


@pytest.mark.parametrize("kind", ["longrope", "dynamic rope", "latent attention"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_engines_own_model_is_the_trainers(kind: str, dtype: str, tmp_path: Path) -> None:
    policy = load_policy(save_network(tmp_path, kind), dtype, longest=100)
    engine = own_engine(policy, is_gpu=False)
    engine.load_weights(policy.model.named_parameters())
    assert torch.equal(logprobs(engine.policy), logprobs(policy))
    ours, theirs = (dict(one.model.named_buffers()) for one in (policy, engine.policy))
    assert {name: (one.dtype, one.shape) for name, one in theirs.items()} == {
        name: (one.dtype, one.shape) for name, one in ours.items()
    }


@pytest.mark.parametrize("kind", ["qwen2", "longrope", "yarn", EXACT["gemma 3 with pictures"]])
def test_positions_are_overridden_before_the_network_is_built(kind: Any, tmp_path: Path) -> None:
    policy = load_policy(save_network(tmp_path / "model", kind), context_tokens=2048, longest=500)
    again = load_policy(str(saved(tmp_path, policy)), longest=500)
    assert again.model.config.get_text_config().max_position_embeddings == 2048
    assert torch.equal(logprobs(again), logprobs(policy))


def test_positions_that_frequencies_are_computed_from_are_not_overridden(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--context_tokens 99: .*dynamic NTK scaling: omit it"):
        load_policy(save_network(tmp_path, "dynamic rope"), context_tokens=99)


def test_a_resumed_run_keeps_its_longest_text(tmp_path: Path) -> None:
    model = save_network(tmp_path / "model", "longrope")
    config = math_config(tmp_path, model, max_response_tokens=30)
    assert torch.equal(logprobs(initial_policy(config)), logprobs(load_policy(model, longest=430)))
    assert torch.equal(logprobs(pretrained_policy(model, config)), logprobs(load_policy(model, longest=430)))


def test_recomputed_activations_change_no_bit_and_know_no_dropout(random_policy: Policy, tmp_path: Path) -> None:
    with_dropout = load_policy(save_network(tmp_path, "gpt2 with dropout"))
    assert with_dropout.model.config.resid_pdrop > 0
    for policy in (random_policy, with_dropout):
        minibatch = one_minibatch(policy)
        (known,) = known_logprobs(policy, None, [minibatch], 1.0)
        kept, recomputed = (
            stepped(policy, minibatch, known, loss_type="fipo", gradient_checkpointing=on)[0] for on in (False, True)
        )
        assert kept.any()
        assert torch.equal(kept, recomputed)


def without_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink()


def with_end_tokens(listed: object) -> Callable[[Path], object]:
    return lambda folder: change_json(folder / "generation_config.json", eos_token_id=listed)


def with_end_token_out_of_reach(folder: Path) -> None:
    with_end_tokens(100_000)(folder)
    change_json(folder / "tokenizer_config.json", eos_token=None)


def with_damaged_json(folder: Path) -> None:
    (folder / "generation_config.json").write_text("{", encoding="utf-8")


def with_other_shapes(folder: Path) -> None:
    change_json(folder / "config.json", vocab_size=300)


UNREAD = r"could not load a tokenizer from .*copy them there"
FAULTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "end token": ("qwen2", with_end_token_out_of_reach, "end-of-sequence token, got token 100000, but its output"),
    "no tokenizer": ("qwen2", without_tokenizer, UNREAD),
    "an empty tokenizer": ("longrope", without_tokenizer, UNREAD),  # transformers makes it up
    "no JSON": ("qwen2", with_damaged_json, r"expected JSON in .*generation_config.json: "),
    "other shapes": ("qwen2", with_other_shapes, r"expected .*embed_tokens.weight of shape \[300, 32\]"),
} | {repr(listed): ("qwen2", with_end_tokens(listed), "eos_token_id") for listed in ("a", [[1]], True, 1.5)}


@pytest.mark.parametrize("name", FAULTS)
def test_a_model_that_is_not_whole_is_one_line(name: str, tmp_path: Path) -> None:
    kind, fault, words = FAULTS[name]
    model = save_network(tmp_path, kind)
    fault(tmp_path)
    with pytest.raises(UsageError, match=rf"^--model: .*{words}") as raised:
        load_policy(model)
    assert not str(raised.value).endswith(":")
    assert "\n" not in str(raised.value)


def test_experts_without_adapters_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, is_named in (("experts", False), ("granite experts", True)):
        model = save_network(tmp_path / kind, kind)
        initial_policy(math_config(tmp_path, model, lora_rank=2))
        assert ("expert weights have no adapters" in capsys.readouterr().out) is is_named
