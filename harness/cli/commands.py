"""The list of commands. Each is a module in which `add` defines the arguments and `run` executes the command."""

from harness.cli import diff, evaluate, plan, prepare, replay, reproduce, resume, show, train

COMMANDS = (train, resume, reproduce, diff, replay, evaluate, show, plan, prepare)
