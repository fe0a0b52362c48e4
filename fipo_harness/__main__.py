"""`fipo-harness COMMAND`: every command of harness, sweeps and analysis under one name.

A package is imported by its name once one of its commands is asked for, so that --help needs none of them.
"""

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WRONG_USE = 2
COMMANDS = {  # by package
    "harness": {
        "train": "train a model under one loss and record the run",
        "resume": "continue a stopped run as if it had never stopped",
        "evaluate": "score a run's final weights, or any model",
        "show": "explain the loss that settings give, or compare two presets",
        "preflight": "what a launch of verl, TRL or ms-swift will train, and what is wrong with it",
        "plan": "a run's memory per GPU, and whether it fits",
        "reproduce": "run a recorded run again and check that it is identical",
        "diff": "where two runs part: settings, environment, first step",
        "microscope": "losses' gradients and token weights beside the true ones",
        "checkpoint": "a run's state after some step, as a folder to start from",
        "prepare": "build and cache the tiny model",
    },
    "sweeps": {
        "compare": "train losses x seeds that differ in nothing else",
        "ablate": "GRPO turned into DAPO into FIPO, one switch at a time",
        "study": "a study of several blocks, by design",
        "fork": "continue recorded runs under several losses, from the same states",
        "search": "search settings with Optuna",
        "track": "log to MLflow what is missing there",
        "ui": "MLflow's page of all studies and runs in a folder",
    },
    "analysis": {
        "report": "verdict, figures and tables of a study, as one page",
        "figures": "the figures alone",
        "verify": "make a report's data again from its folders and name what differs",
        "claims": "what a claims file asks",
        "import": "logs of TRL, verl, ms-swift, lm-eval, MLflow or a CSV as a study",
    },
}
PURPOSES = {"harness": "one training run", "sweeps": "many training runs", "analysis": "run folders to a verdict"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Hand the arguments to the package that has the command; its exit code."""
    words = completing() if "_ARGCOMPLETE" in os.environ else list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        try:
            print(help_text(), flush=True)
        except BrokenPipeError:  # nobody reads on: keep the interpreter from failing again when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    package = next((name for name, commands in COMMANDS.items() if words[0] in commands), None)
    if package is None:
        near = difflib.get_close_matches(words[0], [name for commands in COMMANDS.values() for name in commands], n=1)
        hint = f"did you mean {near[0]}?" if near else "see fipo-harness --help"
        return complain(f"expected a command, got {words[0]!r}: {hint}")
    for name in ("losses", *COMMANDS):
        if (origin := foreign(name)) is not None:
            return complain(
                f"package {name!r}: expected the one in {ROOT}, got {origin}: remove the other one from PYTHONPATH and "
                "the environment"
            )
    os.environ |= own_imports()
    run = partial(importlib.import_module(f"{package}.__main__").main, prog="fipo-harness")
    code = run(words) if package == "analysis" else importlib.import_module("harness").run_command(run, words)
    return int(code)


def completing() -> list[str]:
    """The words that a shell wants to have completed: the first parser that gets them does so, and ends the process."""
    import argcomplete

    setattr(argparse.ArgumentParser, "parse_args", lambda parser, *_: argcomplete.autocomplete(parser))  # noqa: B010
    words = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])].split(" ")[1:]
    if len(words) < 2:
        parser = argparse.ArgumentParser()
        parser.add_argument("command", choices=[name for commands in COMMANDS.values() for name in commands])
        parser.parse_args()
    return words


def help_text() -> str:
    """All commands, a line each, under what their package is for."""
    lines = ["usage: fipo-harness COMMAND [...]", ""]
    for package, commands in COMMANDS.items():
        lines += [f"{PURPOSES[package]}:", *(f"  {name:12} {text}" for name, text in commands.items()), ""]
    return "\n".join([*lines, "fipo-harness COMMAND --help lists a command's flags, each with its default."])


def foreign(package: str) -> str | None:
    """Where a package would be imported from that is not the one beside this file; None where it is."""
    spec = find_spec(package)
    origin = spec.origin if spec else None
    return None if origin and Path(origin).resolve().parents[1] == ROOT else str(origin)


def own_imports() -> dict[str, str]:
    """What a process must have in its environment to import what this one imports, whatever folder it starts in."""
    return {"PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path), "PYTHONSAFEPATH": "1"}


def complain(text: str) -> int:
    """Print the error; the exit code of wrong use."""
    print(f"error: {text}", file=sys.stderr)
    return WRONG_USE


if __name__ == "__main__":
    sys.exit(main())
