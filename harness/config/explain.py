"""The resolved loss as text: what it does step by step, and what other implementations do differently."""

import textwrap

from harness.cli.parser import shown
from harness.config.loss_steps import Step, loss_steps
from harness.config.schema import Config, section_of

WIDTH = 110


def loss_text(config: Config) -> str:
    """The steps of the loss, numbered, each with its formula, source, flags and the differences of others."""
    head = f"--loss_type {config.loss.loss_type}: the loss of a token, and how tokens become a number"
    steps = [step_text(number, step, config) for number, step in enumerate(loss_steps(config), start=1)]
    return "\n\n".join([head, *steps, "Measured on the reference vectors: docs/implementations.md"])


def step_text(number: int, step: Step, config: Config) -> str:
    """One step."""
    lines = [f"{number}. {step.name}", *wrapped("", step.formula), *wrapped("source: ", step.source)]
    lines += wrapped("set by: ", "  ".join(f"--{flag} {shown(value_of(flag, config))}" for flag in step.flags))
    for line in step.elsewhere:
        lines += wrapped("other:  ", line)
    return "\n".join(lines)


def value_of(flag: str, config: Config) -> object:
    """The resolved value of a flag."""
    return getattr(getattr(config, section_of()[flag]), flag)


def wrapped(label: str, text: str) -> list[str]:
    """The text under its label, indented below the step's name."""
    indent = " " * 3
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent + label, subsequent_indent=indent + " " * len(label), break_long_words=False
    )
