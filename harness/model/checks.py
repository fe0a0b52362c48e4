"""What a model must satisfy before a run begins. Each check raises a one-line UsageError."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.errors import UsageError, as_usage_error
from harness.model.attention import last_hidden_states
from harness.model.packing import pack_batch


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
    if "dynamic" in json.dumps(getattr(config, "rope_parameters", None), default=str):
        raise UsageError(
            f"--context_tokens {context_tokens}: expected a model whose rotary embedding does not depend on the "
            "context length, got dynamic NTK scaling: omit it"
        )
    config.max_position_embeddings = context_tokens


@torch.no_grad()
def copy_out_of_mapped_file(network: Any) -> None:
    """Copy the weights out of the memory-mapped file: its header sets their alignment, which affects the last bits."""
    for parameter in network.parameters():
        parameter.data = parameter.data.clone()


def require_supported_attention(network: Any, model: str) -> None:
    """Raise UsageError unless attention can be replaced and every layer uses full or sliding-window attention."""
    if not network._can_set_attn_implementation():
        raise UsageError(
            f"--model: expected a model that takes its attention from transformers' AttentionInterface (Qwen, Llama, "
            f"Mistral), got {model!r}, which does not"
        )
    kinds = set(getattr(network.config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds or getattr(network.config, "attention_chunk_size", None):
        raise UsageError(
            f"--model: expected a model whose layers attend to whole texts or a sliding window (Qwen2, Llama, "
            f"Mistral), got {model!r}, which has {', '.join(sorted(kinds)) or 'chunked attention'}"
        )


@torch.no_grad()
def require_linear_head(network: Any, model: str) -> None:
    """Raise UsageError unless the logits are a linear function of the last hidden states.

    `Policy.logprobs` assumes it. Compares our logits with those of the model's own forward pass and attention.
    """
    head = network.get_output_embeddings()
    prompt, responses = [0, 1, 2], [[2, 1, 0], [1, 1, 2, 0]]
    with as_usage_error(f"--model: expected a model that runs on packed texts (Qwen, Llama, Mistral), got {model!r}"):
        whole = [network(torch.tensor([prompt + response])).logits[0, 2:-1] for response in responses]
        logits = torch.cat(whole)
        batch = pack_batch([prompt] * 2, responses, logits.device)
        states = last_hidden_states(network, batch.tokens[None], batch.positions[None], batch.layout)[0]
        linear = states.index_select(0, batch.predictors) @ head.weight.T
    tolerance = 1e-3 if linear.dtype == torch.float32 else 0.1  # different kernels round differently
    changes = ("final_logit_softcapping", "logit_scale", "logits_scaling")  # Gemma, Cohere and Granite
    changed = any(getattr(network.config, name, None) not in (None, 1, 1.0) for name in changes)
    # The comparison alone would miss a soft cap, which leaves small logits unchanged, and an untrained bias (0). It
    # uses two responses to one prompt because unsupported layers would let one see the other.
    if changed or head.bias is not None or not agree(linear, logits, tolerance):
        raise UsageError(
            f"--model: expected a model whose logits are a linear layer of its last hidden states (Qwen, Llama, "
            f"Mistral), got {model!r}, whose own logits differ from those"
        )


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
