"""What `python -m harness` can do, a module each: `add` describes a command, `run` carries it out."""

from harness.cli import diff, evaluate, plan, prepare, replay, reproduce, resume, show, train

COMMANDS = (train, resume, reproduce, diff, replay, evaluate, show, plan, prepare)
