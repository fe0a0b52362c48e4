"""One step over two and four processes that each hold only their own responses, joined by gloo."""

from pathlib import Path

import torch
from torch import Tensor, distributed

from losses import AVERAGING_MODES
from tests.losses.splits.steps import LOSSES, RESPONSES, drawn_step, loss_and_gradient, responses

WORLDS = (2, 4)
DTYPES = {"float32": torch.float32, "float64": torch.float64}

Results = dict[tuple[int, str, str, str], tuple[Tensor, Tensor]]


def one_rank(rank: int, folder: Path) -> None:
    """The work of one process; the first one saves the results of all steps."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=max(WORLDS))
    results: Results = {}
    for world in WORLDS:
        group = distributed.new_group(list(range(world)))
        if rank < world:
            results |= steps_of(rank, world, group)
    if rank == 0:
        torch.save(results, folder / "results.pt")
    distributed.destroy_process_group()


def steps_of(rank: int, world: int, group: distributed.ProcessGroup) -> Results:
    """Every loss and averaging on this rank's share of the responses, in two micro-batches."""

    def summed(numbers: Tensor) -> Tensor:
        total = numbers.clone()
        distributed.all_reduce(total, group=group)
        return total

    results: Results = {}
    own = list(range(rank, RESPONSES, world))
    for dtype_name, dtype in DTYPES.items():
        step, parameter = drawn_step(dtype)
        parts = [responses(step, own[: len(own) // 2]), responses(step, own[len(own) // 2 :])]
        for name in LOSSES:
            for mode in AVERAGING_MODES:
                key = (world, dtype_name, name, mode)
                results[key] = loss_and_gradient(parts, parameter, name, mode, summed)
    return results
