"""The policy: a causal language model with its tokenizer, and its log-probabilities of given responses.

Log-probabilities are computed from the body's hidden states and the head's weight, without calling the model's forward.
A wrapper that gathers weights or hooks gradients in the forward must do the same here.
"""

import copy
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from harness.errors import UsageError, as_usage_error
from harness.model import checks
from harness.model.attention import last_hidden_states
from harness.model.checkpointing import checkpointing
from harness.model.logprobs import token_logprobs
from harness.model.packing import TokenBatch
from harness.model.rope import fix_rope

PROBE = "What is 1 + 1?\nAnswer: 2"  # a tokenizer must encode this identically before and after saving
Logprobs = tuple[Float[Tensor, "sequence token"], Float[Tensor, "sequence token"]]  # log-probabilities, entropies


@dataclass(frozen=True)
class Policy:
    """A causal language model in eval mode, and its tokenizer."""

    model: Any  # a transformers causal language model
    tokenizer: Any  # a transformers tokenizer
    end_ids: frozenset[int]  # any of these ends a response
    commit: str | None = None  # commit hash of a hub model
    files: Mapping[str, bytes] = field(default_factory=dict)  # path to content, of config and tokenizer files to save

    @property
    def pad_id(self) -> int:
        """The padding token id. It may equal an end token, since masks are built from lengths."""
        pad = self.tokenizer.pad_token_id
        return min(self.end_ids) if pad is None else int(pad)

    @property
    def device(self) -> torch.device:
        parameter: Tensor = next(self.model.parameters())
        return parameter.device

    def copy(self) -> "Policy":
        """A policy with a deep copy of the model."""
        return replace(self, model=copy.deepcopy(self.model))

    def logprobs(self, batch: TokenBatch, temperature: float) -> Logprobs:
        """log pi(token | prefix) of each response token, and the entropy (nats, no gradient) of its distribution.

        Both are taken at the sampling temperature, are float32 regardless of the model's dtype, and are 0 past the end
        of a response.
        """
        with checkpointing(self.model):
            states = last_hidden_states(self.model, batch.tokens[None], batch.positions[None], batch.layout)[0]
        head: Tensor = self.model.get_output_embeddings().weight
        before = states.index_select(0, batch.predictors)
        logprobs, entropy = token_logprobs(before, head, batch.targets, temperature)
        return batch.spread(logprobs), batch.spread(entropy)

    def encode(self, text: str) -> list[int]:
        """The prompt's tokens, including special tokens that the tokenizer prepends but not those that it appends.

        Raises UsageError if a token lies outside the model's embedding.
        """
        tokens = list(encoded(self.tokenizer, text))
        size = self.model.get_input_embeddings().num_embeddings
        if beyond := [token for token in tokens if token >= size]:
            raise UsageError(
                f"--model: expected tokens below {size}, the size of its embedding, got {beyond[0]} "
                f"({self.tokenizer.convert_ids_to_tokens(beyond[0])!r}) in a prompt: the tokenizer belongs to another "
                "model, or tokens were added to it without resizing the embedding"
            )
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """The response's text, without end tokens."""
        return str(self.tokenizer.decode([token for token in tokens if token not in self.end_ids]))

    def token_ends(self, tokens: Sequence[int]) -> list[int]:
        """For each token, the character offset in the response at which its text ends; an end token has no text."""
        return [len(self.decode(tokens[: position + 1])) for position in range(len(tokens))]


@lru_cache(maxsize=4096)  # evaluations repeat their prompts
def encoded(tokenizer: Any, text: str) -> tuple[int, ...]:
    """The text's tokens, without special tokens that the tokenizer appends (end token, separator)."""
    read = tokenizer(text, return_special_tokens_mask=True)
    own = [place for place, is_added in enumerate(read["special_tokens_mask"]) if not is_added]
    return tuple(read["input_ids"][: own[-1] + 1 if own else 0])


def own_tensors(module: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A module's parameters (tied ones once) and persistent buffers, by name."""
    yield from module.named_parameters()
    saved = module.state_dict().keys()
    yield from ((name, buffer) for name, buffer in module.named_buffers() if name in saved)


def load_policy(
    model: str,
    dtype: str = "float32",
    revision: str | None = None,
    context_tokens: int | None = None,
    longest: int = 1,
) -> Policy:
    """Load a policy from a transformers folder or the hub; `context_tokens` overrides the config's number of positions.

    Rotary embeddings that depend on text length are fixed for texts of `longest` tokens. Weights are read from
    safetensors only, and code that comes with the model is never run. Raises UsageError if the model does not exist or
    cannot be trained, sampled from or saved.
    """
    import huggingface_hub

    huggingface_hub.utils.logging.set_verbosity_error()  # it would log its retries before our one-line message
    folder = Path(model).expanduser()
    checks.check_source(model, folder)
    source = str(folder) if folder.is_dir() else model
    tokenizer, network = load_parts(model, source, dtype, revision, context_tokens)
    fix_rope(network, longest)
    checks.copy_out_of_mapped_file(network)
    checks.require_supported_attention(network, model)
    checks.require_exact_logits(network.eval(), model)
    ends = checks.end_ids(network, tokenizer, model)
    with as_usage_error(f"--model: expected a model that can be saved, got {model!r}"):
        companions = companion_files(network, tokenizer)
    commit = None if folder.is_dir() else commit_of(model, revision)
    return Policy(network, tokenizer, ends, commit, companions)


def load_parts(
    model: str, source: str, dtype: str, revision: str | None, context_tokens: int | None
) -> tuple[Any, Any]:
    """The tokenizer and the network. Raises UsageError if one fails to load, has adapters or is quantized."""
    import transformers

    safe: Any = {"revision": revision or "main", "trust_remote_code": False}
    auto: Any = transformers.AutoModelForCausalLM
    unloadable = f"--model: could not load {model!r} as a causal language model"
    with as_usage_error(unloadable):
        config: Any = transformers.AutoConfig.from_pretrained(source, **safe)
    if context_tokens:
        checks.override_positions(config, context_tokens)
    with as_usage_error(
        f"--model: could not load a tokenizer from {model!r}: if it has no tokenizer files, copy them there"
    ):
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(source, **safe)
        # without tokenizer files transformers builds an empty one
        if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
            raise ValueError("the vocabulary would hold special tokens only")
    files: Any = {"dtype": getattr(torch, dtype), "use_safetensors": True, "output_loading_info": True}
    files["ignore_mismatched_sizes"] = True  # checked below, with a better message
    with as_usage_error(unloadable):
        network, found = auto.from_pretrained(source, config=config, **files, **safe)
    checks.check_weights_found(found, model)
    checks.check_weights_plain(network, model)
    return tokenizer, network


def write_policy(folder: Path, policy: Policy, weights: dict[str, Tensor] | None = None) -> None:
    """Write a transformers folder: config, tokenizer, and `weights` (default: the model's) in safetensors.

    Does not use the model's `save_pretrained`, which imports DeepSpeed if it is installed.
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
    """Write everything in a transformers folder but the weights: config, generation config and tokenizer.

    The generation config is not validated, because Llama 2 and Vicuna were published with an invalid one (a temperature
    beside do_sample=false).
    """
    network.config.to_json_file(folder / "config.json")
    network.generation_config.to_json_file(folder / "generation_config.json")
    tokenizer.save_pretrained(folder)


def companion_files(network: Any, tokenizer: Any) -> dict[str, bytes]:
    """The content of these files by path, prepared when a run starts so that a later save can fail only on disk errors.

    Raises any error from transformers, and ValueError if the tokenizer changes when it is saved and loaded again.
    """
    import transformers

    with tempfile.TemporaryDirectory(prefix="fipo-harness-") as name:
        folder = Path(name)
        write_companions(folder, network, tokenizer)
        again: Any = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        if identity(again) != identity(tokenizer):
            raise ValueError("once saved, its tokenizer encodes texts differently: use the base model's tokenizer")
        files = (file for file in sorted(folder.rglob("*")) if file.is_file())
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def identity(tokenizer: Any) -> tuple[list[int], str]:
    """What saving must preserve: the tokens of PROBE and the chat templates, with line endings normalized."""
    templates = tokenizer.chat_template if isinstance(tokenizer.chat_template, dict) else {"": tokenizer.chat_template}
    return tokenizer(PROBE)["input_ids"], repr(sorted(templates.items())).replace("\\r\\n", "\\n")


def commit_of(model: str, revision: str | None) -> str | None:
    """The commit of a hub model that was just loaded, which is the name of its folder in the hub's cache."""
    import huggingface_hub

    config = huggingface_hub.try_to_load_from_cache(model, "config.json", revision=revision or "main")
    return Path(config).parent.name if isinstance(config, str) else None
