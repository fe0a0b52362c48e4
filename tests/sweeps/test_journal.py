"""Optuna's journal, torn anywhere: repaired, it opens, and every record that was whole is there."""

import json
from pathlib import Path

import optuna
import pytest

from harness import UsageError
from sweeps.search.journal import repair
from sweeps.search.samplers import Spec
from sweeps.search.spaces import Parameter, Space
from sweeps.search.study import LossStudy, open_storage

SPACE = Space("own", {"lr": Parameter("log", (1e-4, 1e-2))})


def study(folder: Path) -> LossStudy:
    return LossStudy(open_storage(None, folder), "own/fipo", Spec("random"), Spec("none"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A journal with two ended trials and one that waits."""
    folder = tmp_path_factory.mktemp("journal")
    made = study(folder)
    made.make_trials(3, None)
    for value in (0.25, 0.5):
        asked = made.ask(SPACE, 0)
        assert asked is not None
        made.tell(asked, value, {}, "finished")
    return (folder / "optuna.journal").read_bytes()


@pytest.mark.parametrize("cut", [1, 2, 7, 30, 60, 100, 150])
def test_a_torn_journal_is_repaired_and_can_be_written_again(written: bytes, tmp_path: Path, cut: int) -> None:
    journal = tmp_path / "optuna.journal"
    journal.write_bytes(written[:-cut])
    whole = written[: written[:-cut].rfind(b"\n") + 1]
    note = repair(journal)
    assert journal.read_bytes() == whole
    kept = (tmp_path / "optuna.journal.torn-1").read_bytes() if note else b""
    assert whole + kept == written[:-cut]
    again = study(tmp_path)
    again.make_trials(3, None)
    asked = again.ask(SPACE, 0)
    assert asked is not None
    again.tell(asked, 0.75, {}, "finished")
    assert all(json.loads(line) for line in journal.read_bytes().splitlines())
    reopened = study(tmp_path)
    values = [trial.value for trial in reopened.trials() if trial.state == optuna.trial.TrialState.COMPLETE]
    assert values[0] == 0.25
    assert values[-1] == 0.75


def test_without_repair_the_torn_journal_is_lost(written: bytes, tmp_path: Path) -> None:
    # why `repair` exists: should Optuna mend this, it can go
    journal = tmp_path / "optuna.journal"
    journal.write_bytes(written[:-7])

    def written_and_reopened() -> None:
        for _ in range(2):
            study(tmp_path).make_trials(3, None)

    with pytest.raises((AttributeError, ValueError, KeyError)):
        written_and_reopened()


def test_a_whole_journal_stays_as_it_is(written: bytes, tmp_path: Path) -> None:
    journal = tmp_path / "optuna.journal"
    assert repair(journal) is None
    journal.write_bytes(written)
    assert repair(journal) is None
    assert journal.read_bytes() == written


def test_the_lock_of_a_dead_writer_is_dropped(written: bytes, tmp_path: Path) -> None:
    journal = tmp_path / "optuna.journal"
    journal.write_bytes(written)
    (tmp_path / "optuna.journal.lock").symlink_to(journal)
    repair(journal)
    assert study(tmp_path).ask(SPACE, 0) is not None  # else it waits half a minute


def test_damage_before_the_last_line_is_named(written: bytes, tmp_path: Path) -> None:
    journal = tmp_path / "optuna.journal"
    lines = written.split(b"\n")
    journal.write_bytes(b"\n".join([lines[0], lines[1][:9], *lines[2:]]))
    with pytest.raises(UsageError, match="expected JSON in line 2"):
        repair(journal)
