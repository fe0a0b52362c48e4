"""A causal language model with its tokenizer, and its log-probabilities of given responses.

The log-probabilities take the body's hidden states and the head's weight and never call the model as a whole: a wrapper
that gathers weights or hooks gradients at the model's own forward must do so here too.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from harness.attention import last_hidden_states
from harness.errors import UsageError
from harness.packing import TokenBatch
from harness.token_logprobs import token_logprobs

Logprobs = tuple[Float[Tensor, "sequence token"], Float[Tensor, "sequence token"]]  # and entropies


@dataclass(frozen=True)
class Policy:
    """A model on its device, without dropout, and what turns text into its tokens."""

    model: Any  # a transformers causal language model
    tokenizer: Any  # a transformers tokenizer
    end_ids: frozenset[int]  # any of these ends a response
    commit: str | None = None  # of a hub model: which it is
    files: Mapping[str, bytes] = field(default_factory=dict)  # config and tokenizer, as a saved folder holds them

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
        """The tokens of a text to go on from: with what the tokenizer puts before it, without what it puts behind.

        Raises UsageError for a token that the model's embedding does not have.
        """
        tokens = list(encoded(self.tokenizer, text))
        size = self.model.get_input_embeddings().num_embeddings
        if beyond := [token for token in tokens if token >= size]:
            raise UsageError(
                f"--model: expected tokens below {size}, the size of its embedding, got {beyond[0]} "
                f"({self.tokenizer.convert_ids_to_tokens(beyond[0])!r}) in a prompt: its tokenizer belongs to another "
                "model, or was given tokens for which the embedding was not resized"
            )
        return tokens

    def decode(self, tokens: list[int]) -> str:
        """The response's text without its end token."""
        return str(self.tokenizer.decode([token for token in tokens if token not in self.end_ids]))

    def token_ends(self, tokens: list[int]) -> list[int]:
        """For each token, where its text ends in the response, in characters; an end token has no text."""
        return [len(self.decode(tokens[: position + 1])) for position in range(len(tokens))]


@lru_cache(maxsize=4096)  # evaluations ask the same again and again
def encoded(tokenizer: Any, text: str) -> tuple[int, ...]:
    """The text's tokens, without those that the tokenizer appends to every text (its end token, a separator)."""
    tokens = tokenizer(text)["input_ids"]
    return tuple(tokens[: len(tokens) - appended(tokenizer)])


@lru_cache(maxsize=16)
def appended(tokenizer: Any) -> int:
    """How many tokens it puts behind every text."""
    plain, whole = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    starts = (start for start in range(len(whole)) if whole[start : start + len(plain)] == plain)
    return len(whole) - len(plain) - next(starts, len(whole) - len(plain))


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


def own_tensors(module: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A module's parameters, a tied one once, and the buffers that are saved with them."""
    yield from module.named_parameters()
    saved = module.state_dict().keys()
    yield from ((name, buffer) for name, buffer in module.named_buffers() if name in saved)
