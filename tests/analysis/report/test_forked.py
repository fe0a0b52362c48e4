"""Figures are saved in processes of their own: nothing is lost where one of these fails."""

import os
import signal

import pytest

from analysis.report.forked import Forked


def test_what_it_gives_comes_from_another_process_whatever_its_size() -> None:
    many = [Forked(lambda: b"%d " % os.getpid() * 100_000) for _ in range(3)]
    pids = {pid for one in many for pid in one.result().split()}
    assert len(pids) == 3
    assert str(os.getpid()).encode() not in pids


def test_what_was_killed_is_done_again_and_what_fails_raises_here() -> None:
    here = os.getpid()

    def killed() -> bytes:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return b"again"

    def fails() -> bytes:
        raise OSError("no space left")

    assert Forked(killed).result() == b"again"
    endless = Forked(lambda: b"" if os.getpid() == here else signal.pause() or b"")
    child = endless.child
    endless.close()
    with pytest.raises(ChildProcessError):  # it has ended, and was waited for
        os.waitpid(child, os.WNOHANG)
    with pytest.raises(OSError, match="no space left"):
        Forked(fails).result()
