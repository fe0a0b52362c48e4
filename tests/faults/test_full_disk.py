from pathlib import Path

import pytest

from tests.faults.amount import spread
from tests.faults.forked import Ended
from tests.faults.verdict import Truth, lost, struck
from tests.faults.writes import ROOM_MAKING, full_at

pytestmark = pytest.mark.train


@pytest.mark.parametrize("lasting", [True, False])
def test_a_full_disk_is_named_and_with_room_again_the_run_is_resumed(
    fipo: Truth, tmp_path: Path, lasting: bool
) -> None:
    writes = [what for what in fipo.writes if what.split()[0] not in ROOM_MAKING]
    endings = {}
    for number in spread(len(writes), short=3):
        full, ending = struck(fipo, tmp_path / str(number), full_at(number, lasting))
        endings[f"{number} {writes[number]}"] = wrong_with(full) or ending
    assert lost(endings) == {}


def wrong_with(full: Ended) -> str | None:
    """What is not as it must be where the disk was full: one line that says so; 2 where nothing was begun."""
    lines = [line for line in full.printed.splitlines() if not line.startswith("step ")]
    is_named = len(lines) == 1 and lines[0].startswith("error: ")
    cause = {1: "the disk is full", 2: "No space left on device"}.get(full.code, "?")
    is_right = full.code == 0 or (is_named and cause in full.printed)
    return None if is_right else f"exit code {full.code}: {full.printed[-1000:]}"
