import contextlib
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import LockLost, UsageError
from harness.resume import resume
from harness.run import lock
from harness.run.lock import lock_path, locked
from tests.harness import runs
from tests.harness.tiny import small_config
from tests.waiting import wait_until


@contextlib.contextmanager
def held_by_another(folder: Path) -> Iterator[int]:
    """The folder, held by another process of this id; killed at the end, it leaves its lock."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException), locked(folder):
            os.write(writing, b"held")
            signal.pause()
        os._exit(0)
    os.close(writing)
    try:
        assert os.read(reading, 4) == b"held"
        yield pid
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def is_free(folder: Path) -> bool:
    with locked(folder) as stop_requested:
        return stop_requested() is None


def claimed(folder: Path, **fields: object) -> None:
    """A lock as a dead process would have left it, but for these fields."""
    with held_by_another(folder):
        text = lock_path(folder).read_text(encoding="ascii")
    for name, value in fields.items():
        text, count = re.subn(rf"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
        assert count == 1
    lock_path(folder).write_text(text, encoding="ascii")


def test_the_lock_lies_beside_the_folder_and_is_gone_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    with locked(folder, lambda: "SIGTERM") as stop_requested:
        assert [path.name for path in folder.parent.iterdir()] == [".run.lock"]
        assert stop_requested() == "SIGTERM"
    assert list(folder.parent.iterdir()) == []
    with pytest.raises(ZeroDivisionError), locked(folder):
        raise ZeroDivisionError
    assert list(folder.parent.iterdir()) == []


def test_a_second_holder_is_refused_in_words(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with held_by_another(folder) as pid:
        with pytest.raises(UsageError, match=f"process {pid} on {socket.gethostname()}.* is writing to it") as raised:
            is_free(folder)
        assert "\n" not in str(raised.value)
        assert lock_path(folder).exists()
        assert is_free(tmp_path / "other")
    with locked(folder), pytest.raises(UsageError, match=f"process {os.getpid()} on "):
        is_free(folder)


def test_other_spellings_of_the_folder_meet_the_same_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    monkeypatch.chdir(tmp_path / "run")
    with held_by_another(tmp_path / "run"):
        for name in (".", "../run", "../link"):
            with pytest.raises(UsageError, match="is writing to it"):
                is_free(Path(name))


def test_a_dead_holder_is_replaced(tmp_path: Path) -> None:
    with held_by_another(tmp_path / "run"):
        pass
    assert lock_path(tmp_path / "run").exists()
    assert is_free(tmp_path / "run")


@pytest.mark.parametrize("content", [b"", b"pid=1\n"])
def test_a_lock_that_names_nobody_is_replaced(tmp_path: Path, content: bytes) -> None:
    lock_path(tmp_path / "run").write_bytes(content)
    assert is_free(tmp_path / "run")


def test_a_dead_holder_on_another_host_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    claimed(tmp_path / "run", host="elsewhere")
    monkeypatch.setattr(lock, "LEASE_S", 3.0)  # longer than a busy machine keeps this process from looking twice
    with pytest.raises(UsageError):  # which renews at another pace
        is_free(tmp_path / "run")
    # a host whose name begins like this one's is another, also where it has a process of this id
    for host in ("elsewhere", f"{socket.gethostname()}9"):
        claimed(tmp_path / host, host=host, pid=os.getpid())
        assert is_free(tmp_path / host)
        assert f"on {host}: waiting a minute to see whether it is alive" in capsys.readouterr().out


def test_the_loss_of_the_lock_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LEASE_S", 0.3)
    with locked(tmp_path / "run") as stop_requested:
        lock_path(tmp_path / "run").unlink()
        with pytest.raises(LockLost, match=r"its lock was lost \(marker-missing\)"):
            wait_until(stop_requested, "the loss was not noticed")


@pytest.mark.train
def test_a_run_that_is_being_written_is_neither_trained_into_nor_resumed(model_folder: str, tmp_path: Path) -> None:
    run = runs.trained(small_config(model_folder, steps=1), tmp_path / "run").path
    with held_by_another(run), pytest.raises(UsageError, match="is writing to it"):
        resume(run, runs.ignore)
    with held_by_another(tmp_path / "new"), pytest.raises(UsageError, match="is writing to it"):
        runs.trained(small_config(model_folder, steps=1), tmp_path / "new")
    assert not (tmp_path / "new").exists()
