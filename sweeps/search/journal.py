"""Optuna's journal file after a crash: Optuna 5 opens one whose last line is torn, and glues the next line onto it."""

import json
from pathlib import Path

from harness import UsageError


def repair(journal: Path) -> str | None:
    """Cut off a torn last line, keeping it beside, and drop the lock of a dead writer; says what was cut, or None.

    Call it only while no other process writes the journal. Raises UsageError where a line before the last is damaged:
    what followed from it cannot be known.
    """
    for leftover in journal.parent.glob(f"{journal.name}.lock*"):  # a symlink; a writer that was killed left it
        leftover.unlink()
    if not journal.is_file():
        return None
    content = journal.read_bytes()
    whole = content.rfind(b"\n") + 1
    lines = content[:whole].split(b"\n")[:-1]
    for number, line in enumerate(lines, start=1):
        if not is_record(line):
            if number == len(lines) and whole == len(content):  # a whole line of half-written blocks
                whole -= len(line) + 1
                break
            raise UsageError(f"{journal}: expected JSON in line {number}, got {line[:40]!r}: restore it from a backup")
    if whole == len(content):
        return None
    number = 1
    while (kept := journal.with_name(f"{journal.name}.torn-{number}")).exists():
        number += 1
    kept.write_bytes(content[whole:])
    with journal.open("r+b") as file:
        file.truncate(whole)
    return f"{journal.name}: its torn last line ({len(content) - whole} bytes) was moved to {kept.name}"


def is_record(line: bytes) -> bool:
    """Whether the line is a whole record."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
