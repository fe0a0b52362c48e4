"""What TRL, ms-swift and verl leave behind -> rows.

Left out on purpose: training_args.bin, a pickle; and the text of completions.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis.errors import RecordsError
from analysis.imports.sources import Row, Source, flat, json_lines, read_text
from analysis.records.run_files import read_json

STATE = ("max_steps", "num_train_epochs", "train_batch_size", "logging_steps", "eval_steps")  # settings in it
RAY = re.compile(r"^(?:\x1b\[\d+m)*\(\w+ pid=[^)]*\)(?:\x1b\[\d+m)* ?")  # what Ray puts before an actor's lines
STEP = re.compile(r"(?:^|\s)step:(\d+) - (.+)")
NUMPY = re.compile(r"(?:np\.)?\w+\(([^()]*)\)")  # as numpy 2 and torch print a number
DUMPED = re.compile(r"\d+\.jsonl")


def read_trl(folder: Path) -> Source:
    """The history in the latest checkpoint's trainer_state.json of one output folder."""
    found = sorted(folder.rglob("trainer_state.json")) if folder.is_dir() else [folder]
    states = {path: read_json(path) for path in found}
    homes = {path.parent.parent if path.parent.name.startswith("checkpoint-") else path.parent for path in states}
    if len(homes) > 1:
        one, other, *_ = sorted(map(str, homes))
        raise RecordsError(f"expected the output folder of one run, got {folder} with {one} and {other}: name each one")
    if not states:
        raise RecordsError(f"expected a trainer_state.json in {folder}, got none: did the run save a checkpoint?")
    path, state = max(states.items(), key=lambda item: item[1].get("global_step") or 0)
    history = state.get("log_history")
    if not isinstance(history, list) or not all(isinstance(row, dict) for row in history):
        raise RecordsError(f"expected a log_history of objects in {path}, got {type(history).__name__}: restore it")
    rows = [(f"log_history[{place}] of {path}", row) for place, row in enumerate(history)]
    return Source("trl", rows, [path], {name: state[name] for name in STATE if name in state})


def read_swift(source: Path) -> Source:
    """logging.jsonl, and the settings of the args.json beside it."""
    found = sorted(source.rglob("logging.jsonl")) if source.is_dir() else [source]
    if len(found) != 1:
        got = f"{found[0]} and {found[1]}: name each one" if found else "none: name the run's output folder"
        raise RecordsError(f"expected one logging.jsonl in {source}, got {got}")
    path, notes, args = found[0], list[str](), found[0].with_name("args.json")
    rows = [(place, row) for place, row in json_lines(path, notes) if "log_history" not in row]
    settings = flat(read_json(args)) if args.is_file() else {}
    return Source("swift", rows, [path, args] if settings else [path], settings, notes)


def read_verl(path: Path) -> Source:
    """The `step:N - key:value` lines of a console log and the config printed before them; or verl's file logger."""
    notes = list[str]()
    if path.suffix == ".jsonl":
        rows = [(place, {**row.get("data", {}), "step": row.get("step")}) for place, row in json_lines(path, notes)]
        return Source("verl", rows, [path], {}, notes)
    lines = [RAY.sub("", line) for line in read_text(path).splitlines()]
    rows = []
    for number, line in enumerate(lines, start=1):
        if match := STEP.search(line):
            rows.append((f"line {number} of {path}", {"step": match[1]} | dict(_parts(match[2]))))
    return Source("verl", rows, [path], flat(_printed_config(lines)), notes)


def read_dumped(source: Path) -> Source:
    """verl's validation_data_dir, or one file of it: a question's answer a line, a file a step."""
    notes, files = list[str](), sorted(source.glob("*.jsonl")) if source.is_dir() else [source]
    numbered = [path for path in files if DUMPED.fullmatch(path.name)]
    rows = [row for path in numbered for row in json_lines(path, notes)]
    return Source("verl-answers", rows, numbered, {}, notes)


def _parts(text: str) -> Iterator[tuple[str, str]]:
    for part in text.split(" - "):
        name, colon, value = part.rpartition(":")
        if colon:
            match = NUMPY.fullmatch(value.strip())
            yield name.strip(), match[1] if match else value.strip()


def _printed_config(lines: list[str]) -> Row:
    """The first Python dict that the lines print over several lines; none where there is none."""
    for start, line in enumerate(lines):
        if not line.startswith("{'"):
            continue
        for end in range(start, min(start + 2000, len(lines))):
            if lines[end].rstrip().endswith("}"):
                try:
                    found: Any = ast.literal_eval("\n".join(lines[start : end + 1]))
                except (ValueError, SyntaxError, MemoryError, RecursionError):
                    continue
                if isinstance(found, dict) and any(isinstance(value, dict) for value in found.values()):
                    return {str(name): value for name, value in found.items()}
                break
    return {}
