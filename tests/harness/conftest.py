from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness.backends.torch_setup import set_up_torch
from harness.model.policy import Policy
from harness.run.record import RunFolder
from harness.run.tiny_model import fresh_policy
from harness.tasks.math.checker import MathChecker
from tests.harness import runs, tiny


@pytest.fixture(scope="session", autouse=True)
def torch_as_in_a_run() -> None:
    """One thread and deterministic kernels."""
    set_up_torch(threads=1)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model that answers directly, as a transformers folder."""
    return tiny.save_direct_answers(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def direct_policy() -> Policy:
    """The same, in memory. Tests that train it take a copy."""
    return tiny.direct_answers()


@pytest.fixture(scope="session")
def random_policy() -> Policy:
    """The tiny model with random weights: its responses have all lengths."""
    return fresh_policy(0)


@pytest.fixture(scope="session")
def runs_by_loss(model_folder: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """A small run of each loss under one scaffold with dynamic sampling, and one seed for all."""
    folder: Path = tmp_path_factory.mktemp("runs")
    return {
        loss: runs.trained(tiny.small_config(model_folder, loss_type=loss, **tiny.SCAFFOLD), folder / loss)
        for loss in ("grpo", "dapo", "fipo")
    }


@pytest.fixture(scope="session")
def checker() -> Iterator[MathChecker]:
    with closing(MathChecker()) as checker:
        yield checker
