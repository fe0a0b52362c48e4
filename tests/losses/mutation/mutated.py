"""One-sign mutants of the losses: a function's own source with one spot changed, in place of the function."""

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from losses import FIPO, GRPO
from losses.policy_loss import PolicyLoss


def mutant(function: Callable[..., Any], old: str, new: str) -> Callable[..., Any]:
    """The function with the one occurrence of `old` in its code, after the docstring, replaced by `new`."""
    source = textwrap.dedent(inspect.getsource(function))
    head, quotes, code = source.rpartition('"""')
    assert code.count(old) == 1, f"{function.__qualname__} has {code.count(old)} times {old!r}: update the mutant"
    defined: dict[str, Any] = {}
    exec(head + quotes + code.replace(old, new), vars(sys.modules[function.__module__]), defined)
    return defined[function.__name__]


@contextmanager
def mutated(function: Callable[..., Any], old: str, new: str) -> Iterator[None]:
    """Put the mutant wherever the losses, their classes and these tests hold the function."""
    replacement = mutant(function, old, new)
    modules = [module for name, module in sys.modules.items() if name.startswith(("losses", "tests.losses"))]
    with pytest.MonkeyPatch.context() as patch:
        for owner in [*modules, PolicyLoss, GRPO, FIPO]:
            for name, value in list(vars(owner).items()):
                if value is function:
                    patch.setattr(owner, name, replacement)
        yield
