"""What a model must satisfy before a run begins. Each check raises a one-line UsageError."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.errors import UsageError, as_usage_error
from harness.model.attention import last_hidden_states
from harness.model.packing import Reading, pack_batch

SUPPORTED = "Qwen, Llama, Mistral; docs/models.md lists more"
LOGIT_CHANGES = "final_logit_softcapping", "logit_scale", "logits_scaling"  # Gemma 2, Cohere and Granite
SHORT_WINDOW = 3  # tokens


def check_source(model: str, folder: Path) -> None:
    """Raise UsageError unless `model` names a folder with a full model (not an adapter) or looks like a hub name."""
    if not folder.is_dir():
        if model.startswith((".", "/", "~")) or model.count("/") != 1:
            raise UsageError(f"--model: expected 'tiny', a transformers folder or a hub name owner/name, got {model!r}")
    elif (folder / "adapter_config.json").is_file():
        refuse_adapters(model)
    elif not (folder / "config.json").is_file():
        raise UsageError(f"--model: expected a transformers folder with a config.json, got {model!r}: it has none")
    elif (generation := folder / "generation_config.json").is_file():  # transformers ignores a damaged one
        with as_usage_error(f"--model: expected JSON in {generation}"):
            json.loads(generation.read_bytes())


def check_weights_found(found: Mapping[str, Any], model: str) -> None:
    """Raise UsageError if weights are missing or have the wrong shape: transformers would initialize them randomly."""
    if missing := sorted(found["missing_keys"]):
        raise UsageError(f"--model: expected all weights of the model in {model!r}, got none of {', '.join(missing)}")
    for name, there, wanted in found["mismatched_keys"]:
        raise UsageError(
            f"--model: expected {name} of shape {list(wanted)}, as config.json says, got {list(there)} in {model!r}: "
            "use the config that these weights were saved with"
        )


def check_weights_plain(network: Any, model: str) -> None:
    """Raise UsageError if adapters were loaded with the weights, or the weights are quantized."""
    if getattr(network, "_hf_peft_config_loaded", False):
        refuse_adapters(model)
    if getattr(network, "hf_quantizer", None) is not None:
        raise UsageError(f"--model: expected weights that can be trained, got quantized ones in {model!r}: use others")


def refuse_adapters(model: str) -> None:
    """Raise UsageError, since transformers would load the adapters but a run would neither train nor save them."""
    raise UsageError(
        f"--model: expected a plain model, got {model!r}, which holds adapters (adapter_config.json): merge them into "
        "the weights first (peft's merge_and_unload) and save the result, or move the adapter files out of the folder"
    )


def override_positions(config: Any, context_tokens: int) -> None:
    """Set the maximum number of positions in the config, before the network is built from it.

    Raises UsageError for dynamic NTK scaling, whose frequencies depend on that number.
    """
    if "dynamic" in json.dumps(getattr(config.get_text_config(), "rope_parameters", None), default=str):
        raise UsageError(
            f"--context_tokens {context_tokens}: expected a model whose rotary embedding does not depend on the "
            "context length, got dynamic NTK scaling: omit it"
        )
    config.get_text_config().max_position_embeddings = context_tokens


@torch.no_grad()
def copy_out_of_mapped_file(network: Any) -> None:
    """Copy the weights out of the memory-mapped file: its header sets their alignment, which affects the last bits."""
    for parameter in network.parameters():
        parameter.data = parameter.data.clone()


def require_supported_attention(network: Any, model: str) -> None:
    """Raise UsageError unless attention can be replaced and every layer uses full or sliding-window attention."""
    if not network._can_set_attn_implementation():
        raise UsageError(
            f"--model: expected a model that takes its attention from transformers' AttentionInterface "
            f"({SUPPORTED}), got {model!r}, which does not"
        )
    config = network.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds or getattr(config, "attention_chunk_size", None):
        raise UsageError(
            f"--model: expected a model whose layers attend to whole texts or a sliding window "
            f"({SUPPORTED}), got {model!r}, which has {', '.join(sorted(kinds)) or 'chunked attention'}"
        )


@torch.no_grad()
def require_exact_logits(network: Any, model: str) -> None:
    """Raise UsageError unless packed texts have the logits of the model's own forward pass, linear in the last states.

    `Policy.logprobs` and the sampler assume it. Two responses to one prompt show whether one text sees another.
    """
    head, config = network.get_output_embeddings(), network.config.get_text_config()
    prompt, responses = [0, 1, 2], [[2, 1, 0], [1, 1, 2, 0]]
    expected = f"--model: expected a model that runs on packed texts ({SUPPORTED}), got {model!r}"
    with as_usage_error(expected), short_windows(network):
        texts = [torch.tensor([prompt + response]) for response in responses]
        logits = torch.cat([network(text, use_cache=False).logits[0, 2:-1] for text in texts])
        batch = pack_batch([prompt] * 2, responses, logits.device)
        layout = Reading(batch.layout)
        states = last_hidden_states(network, batch.tokens[None], batch.positions[None], layout)[0]
        linear = states.index_select(0, batch.predictors) @ head.weight.T
    tolerance = 1e-3 if linear.dtype == torch.float32 else 0.1  # different kernels round differently
    # The comparison would miss a soft cap, which leaves small logits unchanged, and an untrained bias (0).
    changes = {name: getattr(config, name, None) for name in LOGIT_CHANGES}
    found = [f"{name} {value}" for name, value in changes.items() if value not in (None, 1, 1.0)]
    found += [] if head.bias is None else ["a bias in its output layer"]
    found += [] if agree(linear, logits, tolerance) else ["other logits on packed texts than on one text alone"]
    if found:
        raise UsageError(
            f"--model: expected a model whose logits are a linear layer of its last hidden states ({SUPPORTED}), got "
            f"{model!r} with {found[0]}"
        )


@contextmanager
def short_windows(network: Any) -> Iterator[None]:
    """Shorten all sliding windows for a while, so that few tokens show whether the model's masks are those we use."""
    holders = [network.config.get_text_config(), *network.modules()]
    windows = [(holder, window) for holder in holders if (window := getattr(holder, "sliding_window", None))]
    try:
        for holder, _ in windows:
            holder.sliding_window = SHORT_WINDOW
        yield
    finally:
        for holder, window in windows:
            holder.sliding_window = window


def agree(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    """Whether the largest absolute difference is within `tolerance` times the largest absolute value of `theirs`."""
    return bool((ours - theirs).abs().max() <= tolerance * theirs.abs().max())


def end_ids(network: Any, tokenizer: Any, model: str) -> frozenset[int]:
    """All token ids that end a response; the generation config may list several.

    Raises UsageError if the output layer covers none of them, since no response would ever end.
    """
    listed = network.generation_config.eos_token_id
    named = [token for token in (listed if isinstance(listed, list) else [listed]) if token is not None]
    if strange := [token for token in named if type(token) is not int]:
        raise UsageError(f"--model: expected whole numbers as eos_token_id of {model!r}, got {strange[0]!r}")
    named += [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    size = network.get_output_embeddings().weight.shape[0]
    if not (reachable := {token for token in named if 0 <= token < size}):
        got = f"token {named[0]}, but its output layer ends at {size - 1}," if named else "none"
        raise UsageError(f"--model: expected a model with an end-of-sequence token, got {got} in {model!r}")
    return frozenset(reachable)
