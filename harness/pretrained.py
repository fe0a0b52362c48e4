"""A policy from a transformers folder or the hub, and back into a folder."""

import errno
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.attention import last_hidden_states
from harness.errors import UsageError
from harness.packing import pack_batch
from harness.policy import Policy, own_tensors


def load_policy(model: str, dtype: str = "float32", revision: str | None = None) -> Policy:
    """The policy in a transformers folder or under a hub name. Raises UsageError where there is none.

    Only safetensors and JSON are read, and no code that a model brings with it is run.
    """
    import huggingface_hub
    import transformers

    huggingface_hub.utils.logging.set_verbosity_error()  # its retries would stand before our one line
    folder = Path(model).expanduser()
    if not folder.is_dir() and (model.startswith((".", "/", "~")) or model.count("/") != 1):
        raise UsageError(f"--model: expected 'tiny', a transformers folder or a hub name owner/name, got {model!r}")
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise UsageError(f"--model: expected a transformers folder with a config.json, got {model!r}: it has none")
    source = str(folder) if folder.is_dir() else model
    safe: Any = {"revision": revision or "main", "trust_remote_code": False, "use_safetensors": True}
    auto: Any = transformers.AutoModelForCausalLM
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **safe)
        network, found = auto.from_pretrained(source, dtype=getattr(torch, dtype), output_loading_info=True, **safe)
    except MemoryError:
        raise
    except Exception as error:  # transformers raises whatever it likes of files that are not what they should be
        if getattr(error, "errno", None) == errno.EIO:
            raise
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"--model: could not load {model!r} as a causal language model: {cause}") from None
    if missing := sorted(found["missing_keys"]):  # transformers would draw them at random
        raise UsageError(f"--model: expected all weights of the model in {model!r}, got none of {', '.join(missing)}")
    own_memory(network)
    refuse_other_heads(network.eval(), model)
    commit = None if folder.is_dir() else commit_of(model, revision)
    return Policy(network, tokenizer, end_ids(network, tokenizer, model), commit)


def write_policy(folder: Path, policy: Policy, weights: dict[str, Tensor] | None = None) -> None:
    """Weights (by default the model's own) and tokenizer as a transformers folder in safetensors.

    `save_pretrained` of the model would import DeepSpeed, where it is installed, to see whether this is its engine.
    """
    import huggingface_hub

    own = dict(own_tensors(policy.model)) if weights is None else weights
    huggingface_hub.save_torch_state_dict(own, folder)
    policy.model.config.save_pretrained(folder)
    policy.model.generation_config.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)


def commit_of(model: str, revision: str | None) -> str | None:
    """The commit of a hub model that was just loaded: the folder's name in the cache."""
    import huggingface_hub

    config = huggingface_hub.try_to_load_from_cache(model, "config.json", revision=revision or "main")
    return Path(config).parent.name if isinstance(config, str) else None


@torch.no_grad()
def own_memory(network: Any) -> None:
    """Move the weights out of the mapped file, whose header decides their alignment, and so kernels and last bits."""
    for parameter in network.parameters():
        parameter.data = parameter.data.clone()


@torch.no_grad()
def refuse_other_heads(network: Any, model: str) -> None:
    """Raise UsageError unless the logits are a linear layer of the last hidden states, and attention can be replaced.

    `response_logprobs` says so. The model's own logits, by its own attention, are what both are held against.
    """
    head = network.get_output_embeddings()
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
    prompt, responses = [0, 1, 2], [[2, 1, 0], [1, 1, 2, 0]]
    whole = [network(torch.tensor([prompt + response])).logits[0, 2:-1] for response in responses]
    logits = torch.cat(whole)
    batch = pack_batch([prompt] * 2, responses, logits.device)
    states = last_hidden_states(network, batch.tokens[None], batch.positions[None], batch.layout)[0]
    linear = states.index_select(0, batch.predictors) @ head.weight.T
    tolerance = 1e-3 if linear.dtype == torch.float32 else 0.1  # other kernels round otherwise
    changes = ("final_logit_softcapping", "logit_scale", "logits_scaling")  # of Gemma, Cohere and Granite
    changed = any(getattr(network.config, name, None) not in (None, 1, 1.0) for name in changes)
    # small logits pass through a cap unchanged, and an untrained bias is 0: hence more than the comparison, which two
    # texts behind one prompt make: layers of another kind would let one see the other
    if changed or head.bias is not None or not agree(linear, logits, tolerance):
        raise UsageError(
            f"--model: expected a model whose logits are a linear layer of its last hidden states (Qwen, Llama, "
            f"Mistral), got {model!r}, which scales, caps or shifts them"
        )


def agree(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    """Whether they are equal to that share of the largest."""
    return bool((ours - theirs).abs().max() <= tolerance * theirs.abs().max())


def end_ids(network: Any, tokenizer: Any, model: str) -> frozenset[int]:
    """Every token that ends a response: the generation config may name several."""
    listed = network.generation_config.eos_token_id
    found = set(listed) if isinstance(listed, list) else {listed}
    found = {token for token in found | {tokenizer.eos_token_id} if token is not None}
    if not found:
        raise UsageError(f"--model: expected a model with an end-of-sequence token, got none in {model!r}")
    return frozenset(found)
