"""Models of random weights, of the shapes that benchmarks measure, with the built-in task's tokenizer."""

import dataclasses
from typing import Any

from harness.model.policy import Policy
from harness.run.tiny_model import fresh_policy

NEVER = -1  # no token has this id
FLAT = 0.02  # transformers' own spread of weights: every token, an end too, is about as likely
LARGER: dict[str, Any] = {  # 1.06 million parameters
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 512,
}


def random_policy(**changes: Any) -> Policy:
    """The tiny model's shape with these changes and flat logits, the same weights every time."""
    return fresh_policy(0, **{"initializer_range": FLAT} | changes)


def endless(policy: Policy) -> Policy:
    """The policy whose responses no token ends: all are as long as they may be."""
    return dataclasses.replace(policy, end_ids=frozenset({NEVER}))
