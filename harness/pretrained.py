"""A policy from a transformers folder or the hub, and back into a folder.

Problems that would only show up later (a model that cannot be saved, responses that cannot end, logits that are not
linear in the hidden states) are checked here, before a run begins.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.attention import last_hidden_states
from harness.errors import UsageError, as_usage_error
from harness.packing import pack_batch
from harness.policy import Policy, own_tensors
from harness.rope import fix_rope

PROBE = "What is 1 + 1?\nAnswer: 2"  # what a tokenizer must encode alike before and after it is saved


def load_policy(
    model: str,
    dtype: str = "float32",
    revision: str | None = None,
    context_tokens: int | None = None,
    longest: int = 1,
) -> Policy:
    """The policy in a transformers folder or under a hub name; `context_tokens` overrides the config's positions.

    Rotary embeddings that depend on the length of texts are fixed to that of the `longest`, in tokens. Weights are read
    from safetensors alone, and no Python code that comes with a model is run. Raises UsageError if there is no such
    model, or if it cannot be trained, sampled from or saved.
    """
    import huggingface_hub

    huggingface_hub.utils.logging.set_verbosity_error()  # its retries would stand before our one line
    folder = Path(model).expanduser()
    check_source(model, folder)
    source = str(folder) if folder.is_dir() else model
    tokenizer, network = load_parts(model, source, dtype, revision, context_tokens)
    fix_rope(network, longest)
    copy_out_of_mapped_file(network)
    require_supported_attention(network, model)
    require_linear_head(network.eval(), model)
    ends = end_ids(network, tokenizer, model)
    with as_usage_error(f"--model: expected a model that can be saved, got {model!r}"):
        companions = companion_files(network, tokenizer)
    commit = None if folder.is_dir() else commit_of(model, revision)
    return Policy(network, tokenizer, ends, commit, companions)


def load_parts(
    model: str, source: str, dtype: str, revision: str | None, context_tokens: int | None
) -> tuple[Any, Any]:
    """Tokenizer and network. Raises UsageError if either cannot be had, or the network is no plain set of weights."""
    import transformers

    safe: Any = {"revision": revision or "main", "trust_remote_code": False}
    auto: Any = transformers.AutoModelForCausalLM
    unloadable = f"--model: could not load {model!r} as a causal language model"
    with as_usage_error(unloadable):
        config: Any = transformers.AutoConfig.from_pretrained(source, **safe)
    if context_tokens:
        override_positions(config, context_tokens)
    with as_usage_error(
        f"--model: could not load a tokenizer from {model!r}: if it has no tokenizer files, copy them there"
    ):
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(source, **safe)
        if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):  # made up, where there are no files
            raise ValueError("it would have no tokens but special ones")
    files: Any = {"dtype": getattr(torch, dtype), "use_safetensors": True, "output_loading_info": True}
    with as_usage_error(unloadable):
        network, found = auto.from_pretrained(source, config=config, **files, **safe)
    if missing := sorted(found["missing_keys"]):  # transformers would draw them at random
        raise UsageError(f"--model: expected all weights of the model in {model!r}, got none of {', '.join(missing)}")
    if getattr(network, "_hf_peft_config_loaded", False):
        refuse_adapters(model)
    if getattr(network, "hf_quantizer", None) is not None:
        raise UsageError(f"--model: expected weights that can be trained, got quantized ones in {model!r}: use others")
    return tokenizer, network


def override_positions(config: Any, context_tokens: int) -> None:
    """Set the config's positions before the network is built from them.

    Raises UsageError for dynamic NTK scaling, whose frequencies are computed from that number.
    """
    if "dynamic" in json.dumps(getattr(config, "rope_parameters", None), default=str):
        raise UsageError(
            f"--context_tokens {context_tokens}: expected a model whose rotary embedding does not depend on it, got "
            "dynamic NTK scaling: leave it out"
        )
    config.max_position_embeddings = context_tokens


def check_source(model: str, folder: Path) -> None:
    """Raise UsageError unless the name is a folder with a model, not an adapter, or may be a hub name."""
    if not folder.is_dir():
        if model.startswith((".", "/", "~")) or model.count("/") != 1:
            raise UsageError(f"--model: expected 'tiny', a transformers folder or a hub name owner/name, got {model!r}")
    elif (folder / "adapter_config.json").is_file():
        refuse_adapters(model)
    elif not (folder / "config.json").is_file():
        raise UsageError(f"--model: expected a transformers folder with a config.json, got {model!r}: it has none")


def refuse_adapters(model: str) -> None:
    """Raise UsageError: transformers would load the adapters too, and a run would neither train nor save them."""
    raise UsageError(
        f"--model: expected a plain model, got {model!r}, which holds adapters (adapter_config.json): merge them into "
        "the weights first (peft's merge_and_unload) and save the result, or move the adapter files out of the folder"
    )


def write_policy(folder: Path, policy: Policy, weights: dict[str, Tensor] | None = None) -> None:
    """Weights (by default the model's own) and tokenizer as a transformers folder in safetensors.

    `save_pretrained` of the model would import DeepSpeed, where it is installed, to see whether this is its engine.
    """
    import huggingface_hub

    own = dict(own_tensors(policy.model)) if weights is None else weights
    huggingface_hub.save_torch_state_dict(own, folder)
    if not policy.files:
        write_companions(folder, policy.model, policy.tokenizer)
    for name, content in policy.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def write_companions(folder: Path, network: Any, tokenizer: Any) -> None:
    """What a transformers folder holds beside the weights: config, generation config and tokenizer.

    The generation config is written without the check that refuses a temperature beside do_sample=false, which Llama 2
    and Vicuna were published with.
    """
    network.config.to_json_file(folder / "config.json")
    network.generation_config.to_json_file(folder / "generation_config.json")
    tokenizer.save_pretrained(folder)


def companion_files(network: Any, tokenizer: Any) -> dict[str, bytes]:
    """The same as bytes by path, kept from the start of a run, so that a save depends on nothing but the disk.

    Raises whatever transformers does, or ValueError where what was saved would be loaded as another tokenizer.
    """
    import transformers

    with tempfile.TemporaryDirectory(prefix="fipo-harness-") as name:
        folder = Path(name)
        write_companions(folder, network, tokenizer)
        again: Any = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        if (again(PROBE)["input_ids"], again.chat_template) != (tokenizer(PROBE)["input_ids"], tokenizer.chat_template):
            raise ValueError("once saved, its tokenizer encodes texts in another way: use the one of its base model")
        files = (file for file in sorted(folder.rglob("*")) if file.is_file())
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def commit_of(model: str, revision: str | None) -> str | None:
    """The commit of a hub model that was just loaded: the folder's name in the cache."""
    import huggingface_hub

    config = huggingface_hub.try_to_load_from_cache(model, "config.json", revision=revision or "main")
    return Path(config).parent.name if isinstance(config, str) else None


@torch.no_grad()
def copy_out_of_mapped_file(network: Any) -> None:
    """Move the weights out of the mapped file, whose header decides their alignment, and so kernels and last bits."""
    for parameter in network.parameters():
        parameter.data = parameter.data.clone()


def require_supported_attention(network: Any, model: str) -> None:
    """Raise UsageError unless attention can be replaced and every layer's sees a whole text or a window of it."""
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
    """Raise UsageError unless the logits are a linear layer of the last hidden states.

    `response_logprobs` says so. The model's own logits, by its own attention, are what both are held against.
    """
    head = network.get_output_embeddings()
    prompt, responses = [0, 1, 2], [[2, 1, 0], [1, 1, 2, 0]]
    with as_usage_error(f"--model: expected a model that runs on packed texts (Qwen, Llama, Mistral), got {model!r}"):
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
            f"Mistral), got {model!r}, whose own logits differ from that"
        )


def agree(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    """Whether they are equal to that share of the largest."""
    return bool((ours - theirs).abs().max() <= tolerance * theirs.abs().max())


def end_ids(network: Any, tokenizer: Any, model: str) -> frozenset[int]:
    """Every token that ends a response: the generation config may name several.

    Raises UsageError where the model can draw none of them, since no response would ever end.
    """
    listed = network.generation_config.eos_token_id
    found = set(listed) if isinstance(listed, list) else {listed}
    named = {token for token in found | {tokenizer.eos_token_id} if token is not None}
    size = network.get_output_embeddings().weight.shape[0]
    if not (reachable := {token for token in named if token < size}):
        got = f"token {min(named)}, where its output layer ends at {size - 1}" if named else "none"
        raise UsageError(f"--model: expected a model with an end-of-sequence token, got {got} in {model!r}")
    return frozenset(reachable)
