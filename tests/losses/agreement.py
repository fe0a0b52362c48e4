"""When two sets of numbers agree. The tolerances of these tests have their names here and stand nowhere else."""

import torch
from torch import Tensor

Numbers = dict[str, Tensor]

# The relative tolerance of each entry; in the levels of OF_THE_LARGEST, of the largest entry: terms of a sum may cancel
# in others. `split` is for one step's loss and gradient in other orders and parts, `difference` for a gradient beside
# differences over a millionth.
LEVELS = {"exact": 0.0, "float64": 1e-9, "float32": 1e-6, "float64_sum": 1e-9, "float32_sum": 1e-6}
LEVELS |= {"float64_split": 1e-12, "difference": 1e-7}
OF_THE_LARGEST = ("_sum", "_split", "difference")


def disagreements(ours: Numbers, theirs: Numbers, level: str) -> list[str]:
    """A line for each name under which the two differ: in shape, by a NaN, or by more than the level allows."""
    lines = [f"{name}: only on one side" for name in sorted(ours.keys() ^ theirs.keys())]
    for name in sorted(ours.keys() & theirs.keys()):
        found, expected = ours[name].detach().double(), theirs[name].detach().double()
        if found.shape != expected.shape:
            lines.append(f"{name}: shape {tuple(found.shape)} in place of {tuple(expected.shape)}")
            continue
        size = expected.abs()
        if level.endswith(OF_THE_LARGEST) and size.numel():
            size = size.max().expand_as(size)
        # written so that a NaN agrees with nothing and an infinity with itself
        differs = ~((found == expected) | ((found - expected).abs() <= LEVELS[level] * size) & expected.isfinite())
        if differs.any():
            first = tuple(differs.nonzero()[0].tolist())
            entries = f"{int(differs.sum())} of {differs.numel()} entries"
            lines.append(f"{name}: {entries}, first at {first}: {found[first]:.17g} in place of {expected[first]:.17g}")
    return lines


def agree(ours: Tensor, theirs: Tensor, level: str) -> bool:
    """Whether two tensors agree to the level."""
    return not disagreements({"number": ours}, {"number": theirs}, level)


def bitwise_equal(ours: Tensor, theirs: Tensor) -> bool:
    """Whether two tensors have the same dtype and the same values, without any NaN."""
    return ours.dtype == theirs.dtype and torch.equal(ours, theirs)
