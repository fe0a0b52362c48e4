"""The tiny model, taught in seconds to answer directly, and settings small enough to train it in a second."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.backends.torch_setup import set_up_torch
from harness.config.resolve import resolve
from harness.config.schema import Config
from harness.model.policy import Policy, write_policy
from harness.rollouts.engine import SamplerContext, TorchEngine
from harness.run.folder import save_folder
from harness.run.tiny_model import cache_key, warm_started
from harness.tasks.chain_sum import GRADED, Stage, Style

DIRECT_ANSWERS = dataclasses.replace(GRADED, stages=(Stage((6, 12), ((1.0, Style()),), steps=40, lr=5e-3),))


# what the runs of `runs_by_loss` share; hot enough for responses of several lengths
SCAFFOLD = {"dynamic_sampling": True, "epochs": 2, "overlong_buffer": 12, "delta": 10.0, "temperature": 1.5, "lr": 3e-3}


@cache
def direct_answers() -> Policy:
    """A policy that answers `#x`, right about as often as chance: its groups hold both right and wrong."""
    set_up_torch(threads=1)
    return warm_started(DIRECT_ANSWERS, 0)


def save_direct_answers(folder: Path) -> str:
    """The folder, with that policy in it."""
    write_policy(folder, direct_answers())
    return str(folder)


@contextmanager
def as_tiny(cache: Path) -> Iterator[None]:
    """Inside, that policy is the model `tiny` of small configs, in this cache."""
    config = small_config()
    key = cache_key(config.task.task, config.model.model_seed, config.run.threads)
    save_folder(cache / "tiny" / f"{config.task.task}-{key}", save_direct_answers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIPO_HARNESS_CACHE", str(cache))
        yield


def small_settings(model: str = "tiny", **changes: Any) -> dict[str, Any]:
    """Flags of a small run."""
    small = {
        "steps": 2,
        "prompts_per_step": 4,
        "group_size": 4,
        "minibatches": 2,
        "max_response_tokens": 24,
        "lr": 1e-2,
        "warmup_steps": 0,
        "eval_prompts": 8,
        "eval_every": 1,
        "final_eval_samples": 2,
    }
    return small | {"model": model} | changes


def small_config(model: str = "tiny", **changes: Any) -> Config:
    """The config of a small run."""
    return resolve(small_settings(model, **changes))


def context(policy: Policy, config: Config) -> SamplerContext:
    """Questions of the graded task to the policy itself."""
    return SamplerContext(policy, GRADED, config, TorchEngine(policy))


def small_flags(model: str, **changes: Any) -> list[str]:
    """The small run as a command line spells it."""
    return [word for name, value in small_settings(model, **changes).items() for word in (f"--{name}", str(value))]
