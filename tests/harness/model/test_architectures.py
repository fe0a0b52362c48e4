"""Models of many architectures: what transformers computes for each text alone, or refused in one line."""

import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from harness.algorithm.batching import plan_minibatches
from harness.errors import UsageError
from harness.model.packing import pack_batch
from harness.model.policy import Policy, load_policy, write_policy
from harness.rollouts.collect import collect
from harness.rollouts.decoding import FIRST_COLUMNS
from harness.rollouts.sampler import Sampling, sample
from harness.run.environment import ROOT
from harness.tasks.chain_sum import GRADED
from tests.harness.agreement import agree
from tests.harness.model.networks import EXPERTS, HEADS, KINDS, SHAPE, change_json, save_network
from tests.harness.tiny import context, small_config

PLAIN = SHAPE | HEADS
WINDOW = PLAIN | {"sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"]}
MIXED = PLAIN | EXPERTS | {"num_experts": 4, "shared_expert_intermediate_size": 16}
TOWER = SHAPE | {"num_attention_heads": 2, "image_size": 28, "patch_size": 14}
PICTURES = {"mm_tokens_per_image": 4, "vision_config": TOWER}
SAME = ("qwen2", "gpt2 with dropout", "experts", "mixtral", "latent attention")
EXACT: dict[str, tuple[str, dict[str, Any]]] = {kind: KINDS[kind] for kind in SAME} | {
    "qwen2, untied, window": ("qwen2", WINDOW | {"use_sliding_window": True}),
    "qwen2, window beyond the texts": ("qwen2", WINDOW | {"use_sliding_window": True, "sliding_window": 500}),
    "qwen2 experts": ("qwen2_moe", MIXED),
    "qwen3": ("qwen3", PLAIN | {"num_key_value_heads": 1, "head_dim": 16}),
    "llama, window unused": ("llama", PLAIN | {"sliding_window": 7, "attention_bias": True}),
    "mistral": ("mistral", PLAIN | {"sliding_window": 7}),
    "gemma": ("gemma", PLAIN | {"head_dim": 8}),
    "gemma 3": ("gemma3_text", WINDOW | {"head_dim": 8}),
    "gemma 3 with pictures": ("gemma3", PICTURES | {"text_config": WINDOW}),
    "phi 3": ("phi3", PLAIN | {"sliding_window": 7, "partial_rotary_factor": 0.5}),
    "gpt2, scaled by layer": ("gpt2", KINDS["gpt2 with dropout"][1] | {"scale_attn_by_inverse_layer_idx": True}),
    "smollm 3": ("smollm3", PLAIN | {"no_rope_layers": [1, 0]}),
    "olmo 2": ("olmo2", PLAIN),
    "olmo 3": ("olmo3", WINDOW),
    "gpt neox": ("gpt_neox", PLAIN),
    "starcoder 2": ("starcoder2", PLAIN | {"sliding_window": 7}),
    "glm 4": ("glm4", PLAIN | {"head_dim": 8}),
    "exaone 4": ("exaone4", WINDOW),
}
CAP, NO_CAP = {"final_logit_softcapping": 30.0}, {"final_logit_softcapping": None}
LINEAR = PLAIN | {"layer_types": ["linear_attention", "full_attention"], "num_experts": 0, "decoder_sparse_step": 0}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "gemma 2": ("gemma2", WINDOW | {"head_dim": 8, "attn_logit_softcapping": None}, "final_logit_softcapping 30.0$"),
    "gemma 2, attention": ("gemma2", WINDOW | {"head_dim": 8} | NO_CAP, "its attention uses softcap,"),
    "gemma 3, capped": ("gemma3", PICTURES | {"text_config": WINDOW | CAP}, "final_logit_softcapping 30.0$"),
    "gemma 3, both ways": ("gemma3_text", WINDOW | {"use_bidirectional_attention": True}, "with other logits"),
    "phi": ("phi", PLAIN, "with a bias in its output layer$"),
    "granite": ("granite", PLAIN | {"logits_scaling": 8.0}, "with logits_scaling 8.0$"),
    "cohere 2": ("cohere2", WINDOW, "with logit_scale 0.0625$"),
    "gpt-oss": ("gpt_oss", WINDOW | {"num_local_experts": 4}, "its attention uses s_aux,"),
    "stablelm": ("stablelm", PLAIN, "its layers pass no keyword arguments on"),
    "falcon": ("falcon", PLAIN, "which does not$"),
    "qwen 3 next": ("qwen3_next", LINEAR, "which has linear_attention$"),
    "llama 4": ("llama4_text", PLAIN | {"num_local_experts": 2}, "which has chunked_attention$"),
    "a window in the mask alone": ("qwen2_moe", MIXED | WINDOW | {"use_sliding_window": True}, "with other logits"),
    "two attentions in a layer": ("diffllama", PLAIN, "expected each layer to attend once"),
}
LENGTHS = [(9, 3), (4, 25), (9, 1), (12, 25), (9, 14), (4, 24), (1, 2), (12, 5)]  # of prompts and responses


def own_logits(model: Any, prompt: list[int], response: list[int]) -> torch.Tensor:
    return model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]


def gradient(model: Any) -> torch.Tensor:
    return torch.cat([one.grad.flatten() for _, one in sorted(model.named_parameters()) if one.grad is not None])


def check_exact(policy: Policy, folder: str) -> None:
    """Packed log-probabilities, their gradient, and sampling against the model's own forward pass of each text."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32", attn_implementation="eager")
    draw = np.random.default_rng(0)
    distinct = {length: draw.integers(5, 300, length).tolist() for length, _ in LENGTHS}
    prompts = [distinct[length] for length, _ in LENGTHS]
    responses = [draw.integers(5, 300, length).tolist() for _, length in LENGTHS]
    batch = pack_batch(prompts, responses, policy.device)
    packed = policy.logprobs(batch, 1.0)[0][batch.drawn]
    alone = torch.cat([own_logits(model, *text) for text in zip(prompts, responses, strict=True)]).log_softmax(-1)
    alone = alone.gather(1, batch.targets[:, None])[:, 0]
    assert agree(packed.detach(), alone.detach(), "network")
    packed.square().sum().backward()
    alone.square().sum().backward()
    assert agree(gradient(policy.model), gradient(model), "network")
    numbers = draw.random((6, FIRST_COLUMNS + 20))  # so that the cache grows
    for row, one in enumerate(sample(policy, prompts[:2], numbers, Sampling(FIRST_COLUMNS + 20))):
        probabilities = own_logits(model, prompts[row // 3], one.tokens).detach().double().softmax(-1)
        chosen, number = torch.tensor(one.tokens)[:, None], torch.from_numpy(numbers[row, : len(one.tokens)])
        upper, odds = (values.gather(1, chosen)[:, 0] for values in (probabilities.cumsum(-1), probabilities))
        assert agree(one.logprobs, odds.log(), "network")
        assert agree(number.clamp(upper - odds, upper), number, "network")
        assert isinstance(policy.decode(one.tokens), str)


@pytest.mark.parametrize("kind", EXACT)
def test_packed_texts_and_samples_are_those_of_each_text_alone(kind: str, tmp_path: Path) -> None:
    write_policy(tmp_path, load_policy(save_network(tmp_path / "theirs", EXACT[kind])))
    check_exact(load_policy(str(tmp_path)), str(tmp_path / "theirs"))


@pytest.mark.filterwarnings("ignore")  # transformers misses kernels of its own
@pytest.mark.parametrize("kind", REFUSED)
def test_a_model_that_would_differ_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"^--model: expected .*Qwen, Llama, Mistral.*{REFUSED[kind][2]}") as raised:
        load_policy(save_network(tmp_path, REFUSED[kind][:2]))
    assert "\n" not in str(raised.value)


def test_the_page_lists_these_models() -> None:
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .*?\((`.*`)\)[^|]* \| (exact|refused)", page, re.MULTILINE)
    listed = {(name, is_exact) for names, is_exact in rows for name in re.findall("`(.*?)`", names)}
    tested = {(name, "exact") for name, _ in EXACT.values()}
    assert listed == tested | {(name, "refused") for name, *_ in REFUSED.values() if (name, "exact") not in tested}


def sharded(folder: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="40KB")
    assert len([*folder.glob("*.safetensors")]) > 1


def in_bfloat16(folder: Path) -> None:
    transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="bfloat16").save_pretrained(folder)


def without_pad_token(folder: Path) -> None:
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        change_json(folder / name, pad_token=None, pad_token_id=None)
    assert load_policy(str(folder)).tokenizer.pad_token_id is None


def with_sampling_settings(folder: Path) -> None:
    own = {"temperature": 0.1, "top_k": 1, "top_p": 0.2, "repetition_penalty": 3.0, "suppress_tokens": [7]}
    change_json(folder / "generation_config.json", do_sample=True, **own)


@pytest.mark.parametrize("change", [sharded, in_bfloat16, without_pad_token, with_sampling_settings])
def test_what_a_folder_brings_changes_no_logprobs(change: Callable[[Path], None], tmp_path: Path) -> None:
    model = save_network(tmp_path, more_rows=64)  # a vocabulary padded beyond the tokenizer
    change(tmp_path)
    check_exact(load_policy(model), model)


def test_tokens_that_would_merge_across_a_prompts_end_are_trained_as_drawn(tmp_path: Path) -> None:
    policy, config = load_policy(save_network(tmp_path)), small_config(group_size=8)
    kept = collect(context(policy, config), 0).kept
    drawn = [one for group in kept for one in group]
    assert any(policy.encode(one.problem.prompt + one.text) != [*one.prompt_tokens, *one.tokens] for one in drawn)
    for batch in chain.from_iterable(plan_minibatches(kept, policy, GRADED, config)):
        assert batch.tokens.targets.tolist() == [token for one in batch.responses for token in one.tokens]
        scored, _ = policy.logprobs(batch.tokens, config.rollout.temperature)
        assert agree(scored.detach(), batch.sampler_logprobs, "network")
