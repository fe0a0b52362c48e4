"""A causal language model with its tokenizer, and its log-probabilities of given responses.

The log-probabilities take the body's hidden states and the head's weight and never call the model as a whole: a wrapper
that gathers weights or hooks gradients at the model's own forward must do so here too.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from harness.attention import last_hidden_states
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


def own_tensors(module: torch.nn.Module, recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
    """A module's parameters, a tied one once, and the buffers that are saved with them."""
    yield from module.named_parameters(recurse=recurse)
    saved = module.state_dict().keys()
    yield from ((name, buffer) for name, buffer in module.named_buffers(recurse=recurse) if name in saved)
