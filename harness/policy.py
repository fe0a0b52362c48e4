"""A causal language model with its tokenizer, and its log-probabilities of given responses.

The log-probabilities take the body's hidden states and the head's weight and never call the model as a whole: a wrapper
that gathers weights or hooks gradients at the model's own forward must do so here too.
"""

import copy
import errno
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from harness.attention import last_hidden_states
from harness.errors import UsageError
from harness.packing import TokenBatch, pack_batch
from harness.token_logprobs import token_logprobs

Logprobs = tuple[Float[Tensor, "sequence token"], Float[Tensor, "sequence token"]]  # and entropies


@dataclass(frozen=True)
class Policy:
    """A model on its device, without dropout, and what turns text into its tokens."""

    model: Any  # a transformers causal language model
    tokenizer: Any  # a transformers tokenizer
    end_ids: frozenset[int]  # any of these ends a response
    commit: str | None = None  # of a hub model: which it is

    @property
    def pad_id(self) -> int:
        """What fills the unused places of a batch. Masks go by length, so it may equal an end token."""
        pad = self.tokenizer.pad_token_id
        return min(self.end_ids) if pad is None else int(pad)

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        parameter: Tensor = next(self.model.parameters())
        return parameter.device

    def copy(self) -> "Policy":
        """The same policy with weights of its own."""
        return replace(self, model=copy.deepcopy(self.model))

    def logprobs(self, batch: TokenBatch, temperature: float) -> Logprobs:
        """`response_logprobs` of it."""
        return response_logprobs(self, batch, temperature)

    def encode(self, text: str) -> list[int]:
        """The prompt's tokens, with what the tokenizer puts at the start of a text."""
        return list(encoded(self.tokenizer, text))

    def decode(self, tokens: list[int]) -> str:
        """The response's text without its end token."""
        return str(self.tokenizer.decode([token for token in tokens if token not in self.end_ids]))

    def token_ends(self, tokens: list[int]) -> list[int]:
        """For each token, where its text ends in the response, in characters; an end token has no text."""
        return [len(self.decode(tokens[: position + 1])) for position in range(len(tokens))]


@lru_cache(maxsize=4096)  # evaluations ask the same again and again
def encoded(tokenizer: Any, text: str) -> tuple[int, ...]:
    """The text's tokens."""
    return tuple(tokenizer(text)["input_ids"])


def response_logprobs(policy: Policy, batch: TokenBatch, temperature: float) -> Logprobs:
    """log pi(token | what stands before it) of each response token, and the entropy (nats) of what it was drawn from.

    Both at the sampling temperature, in float32 whatever the model's dtype, and 0 past a response's end; the entropy
    carries no gradient.
    """
    states = last_hidden_states(policy.model, batch.tokens[None], batch.positions[None], batch.layout)[0]
    head: Tensor = policy.model.get_output_embeddings().weight
    before = states.index_select(0, batch.predictors)
    logprobs, entropy = token_logprobs(before, head, batch.targets, temperature)
    return batch.spread(logprobs), batch.spread(entropy)


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


def own_tensors(module: torch.nn.Module, recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
    """A module's parameters, a tied one once, and the buffers that are saved with them."""
    yield from module.named_parameters(recurse=recurse)
    saved = module.state_dict().keys()
    yield from ((name, buffer) for name, buffer in module.named_buffers(recurse=recurse) if name in saved)


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
