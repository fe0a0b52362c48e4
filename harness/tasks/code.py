"""Loads a task or rewards of the user's own from a Python file, and keeps the file in the run folder.

A flag names them as FILE.py:NAME. A recorded run has a copy of each file in its folder `code`, which is what resuming
and reproducing it load.
"""

import hashlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from harness.config.schema import Config
from harness.errors import HarnessError, UsageError, first_line

CODE = "code"  # folder of the copies in a run folder

_recorded: ContextVar[Path | None] = ContextVar("recorded", default=None)


@contextmanager
def recorded_code(run: Path) -> Iterator[None]:
    """Inside, files are taken from the run's copies if it has them."""
    token = _recorded.set(run / CODE)
    try:
        yield
    finally:
        _recorded.reset(token)


def own_files(config: Config) -> dict[str, Path]:
    """The user's files that the config names, by flag."""
    given = {"task": config.task.task, "reward": config.task.reward}
    return {flag: file_of(spec) for flag, spec in given.items() if spec and ".py:" in spec}


def file_of(spec: str) -> Path:
    """The file in FILE.py:NAME: the running run's copy of it, if there is one."""
    given = Path(f"{spec.partition('.py:')[0]}.py").expanduser()
    kept = _recorded.get()
    return kept / given.name if kept and (kept / given.name).is_file() else given


def code_facts(config: Config) -> dict[str, str]:
    """What environment.json records of the user's files: the sha256 of each."""
    return {
        f"{flag}_code_sha256": hashlib.sha256(file.read_bytes()).hexdigest() for flag, file in own_files(config).items()
    }


def load(spec: str, names: list[str], flag: str) -> list[Any]:
    """The named objects of the file in FILE.py:... Raises UsageError if the file cannot be run or lacks one."""
    file = file_of(spec)
    if not file.is_file():
        raise UsageError(f"--{flag}: expected a Python file, got {str(file)!r}, which does not exist")
    module = run_file(file.resolve(), hashlib.sha256(file.read_bytes()).hexdigest(), flag)
    for name in names:
        if not callable(getattr(module, name, None)):
            own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise UsageError(
                f"--{flag}: expected {name} in {file}, which has {', '.join(own) or 'no class or function'}: name one"
            )
    return [getattr(module, name) for name in names]


@cache
def run_file(file: Path, digest: str, flag: str) -> Any:
    """The file as a module, run once for the same content."""
    name = f"{file.stem}_{digest[:8]}"
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"--{flag}: expected a Python file, got {str(file)!r}")
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UsageError(f"--{flag}: {file} does not run: {described(error, file)}") from None
    return module


@contextmanager
def naming(what: str, on: str) -> Iterator[None]:
    """Turn an error of the user's function into a HarnessError of one line: `what` failed, on which text, and where."""
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:
        raise HarnessError(f"{what} failed on {shortened(on)}: {described(error)}") from None


def described(error: Exception, file: Path | None = None) -> str:
    """The error's type, message and line."""
    frames = traceback.extract_tb(error.__traceback__)
    last = next((frame for frame in reversed(frames) if file is None or frame.filename == str(file)), None)
    line = getattr(error, "lineno", None) or (last.lineno if last else None)
    return f"{type(error).__name__}: {first_line(error)}" + (f", line {line}" if line else "")


def shortened(text: str, most: int = 80) -> str:
    return repr(text if len(text) <= most else f"{text[: most - 3]}...")
