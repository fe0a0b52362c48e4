import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.workers.holders import Holder, ask_to_end, end_session, session_members
from sweeps.workers.leases import UNRENEWED_S, acquire, holder_of, read_lease
from tests.sweeps.processes import dead_holder, session, wait_for


def written(path: Path, holder: Holder | None, **content: object) -> Path:
    """A lease as its holder left it."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"holder": holder and holder.written(), **content}), encoding="utf-8")
    return path


def test_a_lease_is_one_holders(tmp_path: Path) -> None:
    path = tmp_path / "slots" / "cpu-0.json"
    lease = acquire(path)
    assert lease is not None
    assert holder_of(path) == Holder.this()
    assert acquire(path) is None
    lease.note(run="fipo-trial0000-seed1000", port=1234)
    assert read_lease(path) == {"holder": Holder.this().written(), "run": "fipo-trial0000-seed1000", "port": 1234}
    lease.release()
    assert list((tmp_path / "slots").iterdir()) == []


def test_of_many_that_try_at_once_one_gets_it(tmp_path: Path) -> None:
    path = written(tmp_path / "cpu-0.json", dead_holder())
    code = (
        "import sys, time; from pathlib import Path; from sweeps.workers.leases import acquire; "
        f"lease = acquire(Path({str(path)!r})); print(lease is not None, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    tries = [subprocess.Popen(command, **pipes) for _ in range(6)]  # type: ignore[call-overload]
    got = [process.stdout.readline() for process in tries]
    for process in tries:
        process.communicate()
    assert sorted(got) == [b"False\n"] * 5 + [b"True\n"]


@pytest.mark.parametrize("change", [{}, {"started": 0.0}, {"boot": "another"}])
def test_a_dead_holder_loses_its_lease(tmp_path: Path, change: dict[str, object]) -> None:
    # dead are: a process that ended, one whose number is another's now, one of before a reboot
    holder = dead_holder() if not change else replace(Holder.this(), **change)  # type: ignore[arg-type]
    path = written(tmp_path / "cpu-0.json", holder)
    if "boot" in change:  # or of another container: it is known by the lease that nobody renews
        assert acquire(path) is None
        os.utime(path, (0, 0))
    assert acquire(path) is not None
    assert holder_of(path) == Holder.this()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"holder": 3}', '{"holder": {"host": "a"}}'])
def test_a_damaged_lease_can_be_taken(tmp_path: Path, content: str) -> None:
    path = tmp_path / "cpu-0.json"
    path.write_text(content, encoding="utf-8")
    assert acquire(path) is not None


def test_what_a_dead_holder_left_running_is_ended_first(tmp_path: Path) -> None:
    with session() as process:
        runner = Holder.of(process.pid)
        assert len(session_members(process.pid)) == 2
        path = written(tmp_path / "gpu.json", dead_holder(), runner=runner.written())
        ask_to_end(runner)
        process.wait()
        assert len(session_members(process.pid)) == 1  # the child goes on without it
        lease = acquire(path)
        assert lease is not None
        assert session_members(process.pid) == []


def test_another_process_of_the_same_number_is_left_alone() -> None:
    with session() as process:
        end_session(replace(Holder.of(process.pid), started=0.0))
        assert len(session_members(process.pid)) == 2
        end_session(Holder.of(process.pid))
        wait_for(lambda: session_members(process.pid) == [])


def test_a_lease_that_another_took_is_not_released(tmp_path: Path) -> None:
    lease = acquire(tmp_path / "cpu-0.json")
    assert lease is not None
    written(lease.path, replace(Holder.this(), pid=1))
    lease.release()
    assert lease.path.exists()


def test_a_lease_of_another_host_is_taken_when_it_is_not_renewed(tmp_path: Path) -> None:
    path = written(tmp_path / "cpu-0.json", replace(Holder.this(), host="another", boot="another"))
    assert acquire(path) is None
    old = time.time() - UNRENEWED_S - 1
    os.utime(path, (old, old))
    lease = acquire(path)
    assert lease is not None
    os.utime(path, (old, old))
    lease.renew()
    assert path.stat().st_mtime > old + UNRENEWED_S
