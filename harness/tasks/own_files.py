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
from pathlib import Path
from types import ModuleType
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
    """The user's files that the config names, by flag. Raises UsageError if the copies of two would be one."""
    given = {"task": config.task.task, "reward": config.task.reward}
    files = {flag: file_of(spec) for flag, spec in given.items() if spec and ".py:" in spec}
    if len({file.name for file in files.values()}) < len({file.resolve() for file in files.values()}):
        raise UsageError(
            f"--reward: expected a file named otherwise than --task's, got two named {files['task'].name}: rename one"
        )
    return files


def file_of(spec: str) -> Path:
    """The file in FILE.py:NAME, or its copy in the run that is being resumed or reproduced."""
    given = Path(f"{spec.partition('.py:')[0]}.py").expanduser()
    kept = _recorded.get()
    return kept / given.name if kept and (kept / given.name).is_file() else given


@cache
def content(file: Path) -> bytes:
    """The file as it was when it was first read, so that what is recorded is what runs. file: resolved."""
    return file.read_bytes()


def own_code_hashes(config: Config) -> dict[str, str]:
    """What environment.json records of the user's files: the sha256 of each."""
    return {f"{flag}_code_sha256": code_sha256(file) for flag, file in own_files(config).items()}


def code_sha256(file: Path) -> str:
    return hashlib.sha256(content(file.resolve())).hexdigest()


def load(spec: str, names: list[str], flag: str) -> list[Any]:
    """The named objects of the file in FILE.py:... Raises UsageError if the file cannot be run or lacks one."""
    file = file_of(spec)
    try:
        module = run_file(file.resolve())
    except (Exception, SystemExit) as error:
        raise UsageError(f"--{flag}: {file} does not run: {described(error, file.resolve())}") from None
    for name in names:
        if not callable(getattr(module, name, None)):
            own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
            raise UsageError(
                f"--{flag}: expected {name} in {file}, which has {', '.join(own) or 'no class or function'}: name one"
            )
    return [getattr(module, name) for name in names]


@cache
def run_file(file: Path) -> ModuleType:
    """The file as a module. Raises what it raises, and ImportError if it imports a module that lies beside it."""
    code = compile(content(file), file, "exec")
    module, before = ModuleType(f"{file.stem}_{code_sha256(file)[:8]}"), set(sys.modules)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        exec(code, vars(module))  # noqa: S102 - the user's own file, which the flag names
    except BaseException:
        del sys.modules[module.__name__]
        raise
    for name in set(sys.modules) - before - {module.__name__}:
        beside = Path(getattr(sys.modules[name], "__file__", None) or "/")
        if file.parent in beside.parents and "site-packages" not in beside.parts and not name.startswith("harness."):
            raise ImportError(f"it imports {name} from its own folder, which a run does not record: use one file")
    return module


@contextmanager
def errors_naming(what: str, spec: str, on: str | None = None) -> Iterator[None]:
    """Turn an error of the user's function into a HarnessError of one line: what failed, on which text, and where."""
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:
        text = "" if on is None else f" on {shortened(on)}"
        raise HarnessError(f"{what} failed{text}: {described(error, file_of(spec).resolve())}") from None


def described(error: BaseException, file: Path) -> str:
    """The error's type, message and line in the file."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    if isinstance(error, SyntaxError) and error.filename == str(file):
        lines.append(error.lineno)
    return f"{type(error).__name__}: {first_line(error)}" + (f", line {lines[-1]}" if lines else "")


def shortened(value: object, most: int = 80) -> str:
    """The value as Python writes it, in one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."
