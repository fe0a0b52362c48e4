import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.run.environment import ROOT
from tests.faults.amount import THOROUGH, spread
from tests.faults.conftest import SETTINGS
from tests.faults.forked import Ended
from tests.faults.verdict import SURVIVED, Truth, lost, struck, verdict
from tests.faults.writes import ROOM_MAKING, full_at
from tests.harness.tiny import SCAFFOLD, small_flags

pytestmark = pytest.mark.train


@pytest.mark.parametrize("lasting", [True, False])
def test_a_full_disk_is_named_and_with_room_again_the_run_is_resumed(
    dapo: Truth, tmp_path: Path, lasting: bool
) -> None:
    writes = [what for what in dapo.writes if what.split()[0] not in ROOM_MAKING]
    endings = {}
    for number in spread(len(writes), short=4):
        full, ending = struck(dapo, tmp_path / str(number), full_at(number, lasting))
        endings[f"{number} {writes[number]}"] = wrong_with(full) or ending
    assert lost(endings) == {}


def wrong_with(full: Ended) -> str | None:
    """What is not as it must be where the disk was full: one line that says so; 2 where nothing was begun."""
    lines = [line for line in full.printed.splitlines() if not line.startswith("step ")]
    is_named = len(lines) == 1 and lines[0].startswith("error: ")
    cause = {1: "the disk is full", 2: "No space left on device"}.get(full.code, "?")
    is_right = full.code == 0 or (is_named and cause in full.printed)
    return None if is_right else f"exit code {full.code}: {full.printed[-1000:]}"


# on a small disk that only this script sees, and on the same one with room
SMALL_DISK = """
disk=$1 kib=$2 out=$3 python=$4; shift 4
mount -t tmpfs -o size=${kib}k tmpfs "$disk" && cd "$disk" || exit 99
"$python" -m harness train "$@" > "$out/full" 2>&1
echo $? > "$out/code"
mount -o remount,size=100m "$disk"
if [ -e run ]; then "$python" -m harness resume run; else "$python" -m harness train "$@"; fi > "$out/log" 2>&1
code=$?
cp -r run "$out"
exit $code
"""


@pytest.mark.skipif(not THOROUGH, reason="six seconds of imports each: make test-faults")
@pytest.mark.parametrize("kib", [8, 300, 1500, 2700, 3300])
def test_a_disk_that_is_really_full(dapo: Truth, tmp_path: Path, kib: int) -> None:
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets no user mount a disk of their own")
    disk, out = tmp_path / "disk", tmp_path / "out"
    disk.mkdir()
    out.mkdir()
    flags = small_flags("tiny", **SCAFFOLD | SETTINGS | {"loss_type": "dapo"})
    command = ["unshare", "-rm", "sh", "-c", SMALL_DISK, "sh", disk, str(kib), out, sys.executable, *flags]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    full = Ended(int((out / "code").read_text()), (out / "full").read_text(encoding="utf-8"))
    log = (out / "log").read_text(encoding="utf-8").replace("finished: run\n", "")
    assert (wrong_with(full) or verdict(out / "run", dapo.run, Ended(done.returncode, log))) == SURVIVED
