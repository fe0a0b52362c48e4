"""A step over several processes gives the loss and gradient of one process, also where a rank has no tokens."""

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.multiprocessing import spawn

from losses import AVERAGING_MODES
from tests.losses.agreement import agree
from tests.losses.ranks import DTYPES, WORLDS, Results, one_rank
from tests.losses.steps import EMPTY, LOSSES, RESPONSES, drawn_step, loss_and_gradient


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What the processes found: four are started once, of which steps of fewer ranks use the first ones."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    spawn(one_rank, (folder,), nprocs=max(WORLDS))
    return torch.load(folder / "results.pt")


@cache
def in_one_piece(dtype: str, name: str, mode: str) -> tuple[Tensor, Tensor]:
    """The loss and gradient of this process, which holds all responses."""
    step, parameter = drawn_step(DTYPES[dtype])
    return loss_and_gradient([step], parameter, name, mode)


@pytest.mark.parametrize("mode", AVERAGING_MODES)
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("world", WORLDS)
def test_ranks_change_nothing(results: Results, world: int, dtype: str, name: str, mode: str) -> None:
    scalar, gradient = in_one_piece(dtype, name, mode)
    found, found_gradient = results[world, dtype, name, mode]
    assert agree(found, scalar, f"{dtype}_split")
    assert agree(found_gradient, gradient, f"{dtype}_split")


def test_the_last_of_four_ranks_has_no_tokens() -> None:
    step, _ = drawn_step(torch.float32)
    own = list(range(max(WORLDS) - 1, RESPONSES, max(WORLDS)))
    assert own == list(EMPTY)
    assert not step.mask[own].any()
