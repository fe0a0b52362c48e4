"""Every write that this process makes, and a fault that strikes one of them.

Counted are the calls that change a disk: files opened to be written, what is written to them, safetensors, fsync, new
folders, renames, removals. What the tokenizer's library writes by itself is not seen until it is flushed.
"""

import builtins
import errno
import io
import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch

Fault = Callable[[str, Callable[[], object]], None]  # an operation's name, and what does half of it

CALLS = "fsync", "mkdir", "rename", "replace", "unlink", "rmdir", "truncate"
ROOM_MAKING = "unlink", "rmdir", "truncate"


def killed_at(number: int, half_done: bool = False) -> Fault:
    """SIGKILL just before the operation of that number, which is just after the one before it; or in the middle."""
    return signalled_at(number, signal.SIGKILL, half_done=half_done)


def signalled_at(number: int, *signals: signal.Signals, half_done: bool = False) -> Fault:
    """Those signals just before the operation of that number, or in the middle."""
    count = itertools.count()

    def fault(_operation: str, do_half: Callable[[], object]) -> None:
        if next(count) == number:
            if half_done:
                do_half()
            for one in signals:
                os.kill(os.getpid(), one)

    return fault


def full_at(number: int, lasting: bool = True) -> Fault:
    """A disk without room from the operation of that number on, or for that one alone. Removals still work."""
    count = itertools.count()

    def fault(operation: str, do_half: Callable[[], object]) -> None:
        if operation.split()[0] in ROOM_MAKING:
            return
        now = next(count)
        if now == number or (lasting and now > number):
            do_half()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return fault


def listed_in(listing: Path) -> Fault:
    """No fault: a line for each operation."""
    descriptor, write = os.open(listing, os.O_CREAT | os.O_WRONLY | os.O_APPEND), os.write
    return lambda operation, _: write(descriptor, f"{operation}\n".encode()) and None


def strike(fault: Fault) -> None:
    """From now on the fault is asked before each write. There is no way back: for a process that is about to end."""
    for name in CALLS:
        setattr(os, name, struck(name, getattr(os, name), fault))
    strike_descriptors(fault)
    strike_files(fault)
    strike_safetensors(fault)


def struck(name: str, call: Callable[..., Any], fault: Fault) -> Callable[..., Any]:
    """The call with the fault before it; it has no half."""

    def struck_call(first: Any, *rest: Any, **options: Any) -> Any:
        fault(f"{name} {first}", lambda: None)
        return call(first, *rest, **options)

    return struck_call


def strike_descriptors(fault: Fault) -> None:
    """os.open of a new file, and os.write: locks are made so."""
    opened, write = os.open, os.write

    def struck_open(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & os.O_CREAT:
            fault(f"open {path}", lambda: None)
        return opened(path, flags, *rest, **options)

    def struck_write(descriptor: int, content: bytes) -> int:
        fault("write", lambda: write(descriptor, content[: len(content) // 2]))
        return write(descriptor, content)

    os.open, os.write = struck_open, struck_write


def strike_files(fault: Fault) -> None:
    """open() of a path to be written, and each write that reaches the system."""
    opened = io.open

    class StruckFile(io.FileIO):
        def write(self, content: Any) -> int:
            view = memoryview(content).cast("B")
            fault(f"write {self.name}", lambda: super(StruckFile, self).write(view[: len(view) // 2]))
            return super().write(view)

    def struck_open(file: Any, mode: str = "r", buffering: int = -1, *text: Any, **options: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wax"):
            return opened(file, mode, buffering, *text, **options)
        fault(f"open {file}", lambda: None)
        binary = io.BufferedWriter(StruckFile(file, mode.replace("b", "").replace("t", "")))
        return binary if "b" in mode else io.TextIOWrapper(binary, *text, **options)

    io.open = builtins.open = struck_open


def strike_safetensors(fault: Fault) -> None:
    """The library writes by itself: half a file is a whole one cut, and a full disk comes as its own error."""
    serialize_file = safetensors.torch.serialize_file

    def struck_serialize(tensors: Any, path: Any, **options: Any) -> None:
        def do_half() -> None:
            serialize_file(tensors, path, **options)
            with Path(path).open("rb+") as file:
                file.truncate(Path(path).stat().st_size // 2)

        try:
            fault(f"save {path}", do_half)
        except OSError as error:
            cause = f"Error while serializing: I/O error: {error.strerror} (os error {error.errno})"
            raise safetensors.SafetensorError(cause) from None
        serialize_file(tensors, path, **options)

    safetensors.torch.serialize_file = struck_serialize
