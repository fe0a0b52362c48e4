"""The reference vectors of tests/golden: inputs, settings, and which of their numbers can be compared."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from losses import LossBatch
from tests.losses.agreement import Numbers, disagreements

GOLDEN = Path(__file__).parents[2] / "golden"

Vector = dict[str, Any]


def names(kind: str) -> list[str]:
    """The names of the vectors of one kind: case, edge or adv."""
    return sorted(path.stem for path in GOLDEN.glob(f"{kind}_*.npz"))


LOSS_VECTORS = names("case") + names("edge")
ADVANTAGE_VECTORS = names("adv")


@cache
def load(name: str) -> Vector:
    """The arrays of one file, numbers as tensors."""
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return {
            key: array.item() if array.dtype.kind == "U" else torch.as_tensor(array) for key, array in arrays.items()
        }


def dtype(vector: Vector) -> torch.dtype:
    """The dtype in which the implementations computed the vector."""
    return torch.float32 if vector.get("cfg__dtype") == "torch.float32" else torch.float64


def batch(vector: Vector, mask: Tensor | None = None) -> LossBatch:
    """The vector's inputs, ready for a gradient, with `mask` in place of its own where given."""
    old, policy, advantages = (
        vector[f"in__{name}"].to(dtype(vector)) for name in ("old_logps", "logps", "advantages_tok")
    )
    return LossBatch(policy.clone().requires_grad_(), old, advantages, vector["in__mask"] if mask is None else mask)


def setting(vector: Vector, name: str) -> float | bool | None:
    """One of the vector's settings, None where it is NaN."""
    value = vector[f"cfg__{name}"].item()
    return None if value != value else value


def surrogate_settings(vector: Vector) -> dict[str, Any]:
    """The vector's settings of GRPO and DAPO."""
    return {
        "epsilon_low": setting(vector, "eps_low"),
        "epsilon_high": setting(vector, "eps_high"),
        "delta": setting(vector, "delta"),
    }


def fipo_settings(vector: Vector) -> dict[str, Any]:
    """The vector's settings of FIPO."""
    own = ("decay_rate", "clip_range", "clip_high_only", "safety_threshold")
    return surrogate_settings(vector) | {name: setting(vector, name) for name in own}


def averaged(name: str, token_loss: Tensor, weights: Tensor, loss_batch: LossBatch) -> Numbers:
    """The scalar loss under the weights and its gradient, named as in the files."""
    scalar = (token_loss * weights).sum()
    (gradient,) = torch.autograd.grad(scalar, loss_batch.policy_logprobs, retain_graph=True)
    return {f"{name}__scalar": scalar.detach(), f"{name}__grad": gradient}


def ties(vector: Vector) -> Tensor:
    """Tokens whose ratio equals a bound but for rounding, so that the sub-gradient is a matter of taste."""
    ratio = (vector["in__logps"] - vector["in__old_logps"]).exp()
    low, high, delta = surrogate_settings(vector).values()
    bounds = [1 - low, 1 + high] + ([] if delta is None else [delta])
    rounding = 8 * torch.finfo(ratio.dtype).eps
    near = [(ratio / bound - 1).abs() < rounding for bound in bounds]
    return torch.stack(near).any(dim=0) & vector["in__mask"]


def recorded(vector: Vector) -> Numbers:
    """The numbers in the vector that implementations gave, without inputs and settings."""
    return {name: values for name, values in vector.items() if not name.startswith(("in__", "cfg__"))}


def comparable(numbers: Numbers, vector: Vector) -> Numbers:
    """The entries that mean something: gradients but at ties, whole masks, other arrays on response tokens."""
    if "in__mask" not in vector:
        return numbers
    smooth, response = ~ties(vector), vector["in__mask"]
    chosen = {}
    for name, values in numbers.items():
        if values.dim() == 2 and not name.endswith("__loss_mask"):
            values = values[smooth if name.endswith("__grad") else response]
        chosen[name] = values
    if not smooth.all():  # which clipped tokens are counted at a tie is rounding too
        chosen = {name: values for name, values in chosen.items() if "__clipfrac" not in name}
    return chosen


def level(name: str, vector: Vector) -> str:
    """The level to which an array must agree: that of its dtype; float32 sums cannot be exact where terms cancel."""
    if dtype(vector) == torch.float64:
        return "float64"
    return "float32_sum" if name.endswith("__future_kl") else "float32"


def compared(ours: Numbers, vector: Vector) -> Numbers:
    """The recorded numbers with which ours are compared: of the arrays that both have and that hold no NaN."""
    theirs = comparable({name: values for name, values in recorded(vector).items() if name in ours}, vector)
    return {name: values for name, values in theirs.items() if not values.isnan().any()}


def differing(ours: Numbers, vector: Vector) -> list[str]:
    """A line for each compared array in which ours differ from the vector's."""
    theirs = compared(ours, vector)
    found = comparable({name: ours[name] for name in theirs}, vector)
    lines = []
    for name, expected in theirs.items():
        lines += disagreements({name: found[name]}, {name: expected}, level(name, vector))
    return lines
