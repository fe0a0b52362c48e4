"""Models of random weights, of the shapes that benchmarks measure, with the built-in task's tokenizer."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from harness.model.policy import Policy
from harness.run.tiny_model import SHAPE, character_tokenizer

NEVER = -1  # no token has this id
# transformers' own spread of weights: every token, an end too, is about as likely
TINY: dict[str, Any] = SHAPE | {"model_type": "qwen2", "initializer_range": 0.02}
LARGER = TINY | {  # 1.06 million parameters
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 512,
}


def random_policy(shape: Mapping[str, Any], device: str = "cpu", dtype: torch.dtype = torch.float32) -> Policy:
    """A model of the shape, as its config.json has it, the same weights every time."""
    import transformers

    tokenizer = character_tokenizer()
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    settings = transformers.AutoConfig.for_model(**{"vocab_size": len(tokenizer)} | dict(shape) | ids)
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(settings)
    return Policy(model.to(dtype).eval(), tokenizer, frozenset({tokenizer.eos_token_id}))


def endless(policy: Policy) -> Policy:
    """The policy whose responses no token ends: all are as long as they may be."""
    return dataclasses.replace(policy, end_ids=frozenset({NEVER}))
