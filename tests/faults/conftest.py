from collections.abc import Iterator
from pathlib import Path

import pandas  # noqa: F401  # pyarrow looks for it at its first table: once here, not in every fork
import pytest

from harness.backends.torch_setup import set_up_torch
from tests.faults.forked import forked, going_on
from tests.faults.verdict import Truth
from tests.faults.writes import killed_at, listed_in
from tests.harness.tiny import SCAFFOLD, as_tiny, small_config

SETTINGS = {"steps": 4, "checkpoint_every": 1, "eval_every": 2, "prompts_per_step": 2, "output_dir": "run"}
SETTINGS |= {"loss_type": "fipo", "beta": 0.05}


@pytest.fixture(scope="session", autouse=True)
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The model `tiny` is one that is made in seconds."""
    set_up_torch(threads=1)
    with as_tiny(tmp_path_factory.mktemp("cache")):
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the files of one fuzzed module."""
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="session")
def fipo(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """FIPO with a reference policy."""
    folder = tmp_path_factory.mktemp("fipo")
    config = small_config(**SCAFFOLD | SETTINGS)
    ended = forked(going_on(config, folder / "run"), folder / "log", listed_in(folder / "writes"))
    assert ended.code == 0, ended.printed
    writes = (folder / "writes").read_text(encoding="utf-8").splitlines()
    return Truth(config, folder / "run", writes)


@pytest.fixture(scope="session")
def half(fipo: Truth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same FIPO run, killed as it was about to write down the metrics of its third step."""
    folder = tmp_path_factory.mktemp("half")
    opened = [number for number, what in enumerate(fipo.writes) if what == f"open {fipo.run / 'metrics.jsonl'}"]
    forked(going_on(fipo.config, folder / "run"), folder / "log", killed_at(opened[2]))
    assert sorted(path.name for path in (folder / "run" / "checkpoints").iterdir()) == [
        "initial",
        "step_000001",
        "step_000002",
    ]
    return folder / "run"
