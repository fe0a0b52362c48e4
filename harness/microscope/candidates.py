"""Candidates: losses, their placebos, and upper bounds from true credit, each with its gradient on the same minibatch.

They ship in candidates.toml, which says what each is for; other losses are known by name, at their defaults. A loss of
the user's own is FILE.py:CLASS: a class without required arguments that is a `losses.Loss`.
"""

import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import TypeAdapter
from scipy.stats import rankdata
from torch import Tensor

from harness.algorithm.batching import MicroBatch, plan_minibatches
from harness.algorithm.state import make_loss
from harness.algorithm.update import KnownLogprobs, Updater
from harness.config.loss import LOSS_TYPES
from harness.config.resolve import with_loss
from harness.config.schema import Config
from harness.errors import UsageError, as_usage_error
from harness.microscope.values import Credit
from harness.rollouts.collect import Group
from harness.tasks.drawn import maker_class
from harness.tasks.own_files import code_sha256, file_of, load
from harness.tasks.task import Task
from losses import Loss

ResponseKey = tuple[str, int]  # prompt and sample
Credits = Mapping[ResponseKey, Credit]
Column = dict[ResponseKey, np.ndarray]  # values by token
Kind = Literal["loss", "placebo", "variant", "polarity", "control", "truth"]
LOW, HIGH = 0.5, 1.5  # bounds of the weights of `truth = "ranks"`
PUBLISHED = {
    "fipo_decay_rate": 32.0,
    "fipo_weight_bound": None,
    "fipo_filter_in_log_space": False,
    "fipo_signed": False,
}


@dataclass(frozen=True)
class Candidate:
    """What differs from the run's own loss. `like`: the candidate that it changes, and is compared with."""

    kind: Kind
    label: str
    like: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    control: str = "none"
    negatives: float = 1.0  # factor of negative advantages
    truth: Literal["advantages", "ranks"] | None = None
    own_loss: str | None = None  # FILE.py:CLASS
    code_sha256: str | None = None  # of that file


SHIPPED: dict[str, Candidate] = TypeAdapter(dict[str, Candidate]).validate_python(
    tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
)
KNOWN = {name: Candidate("loss", name.upper(), settings={"loss_type": name}) for name in LOSS_TYPES} | SHIPPED


def chosen_candidates(names: str, has_steps: bool) -> dict[str, Candidate]:
    """The candidates in a comma-separated list of names and FILE.py:CLASS, or `all`; DAPO first, as the reference.

    Raises UsageError for a name that is not known. Without steps that can be checked, `all` leaves the controls out.
    """
    if names == "all":
        return {name: one for name, one in SHIPPED.items() if has_steps or one.kind != "control"}
    found = {"dapo": SHIPPED["dapo"]}
    for name in filter(None, map(str.strip, names.split(","))):
        if ".py:" in name:
            label = name.rpartition(":")[2]
            if label in KNOWN or label in found:
                raise UsageError(f"--losses {name}: expected a name that no other candidate has: rename the class")
            own_loss(name)
            found[label] = Candidate("loss", label, own_loss=name, code_sha256=code_sha256(file_of(name)))
        elif name in KNOWN:
            found[name] = KNOWN[name]
        else:
            raise UsageError(
                f"--losses: expected all, FILE.py:CLASS or names among {', '.join(KNOWN)}, got {name!r}: name one"
            )
    controls = [name for name, one in found.items() if one.kind == "control"]
    if controls and not has_steps:
        raise UsageError(f"--losses {controls[0]}: expected a task whose steps can be checked: leave it out")
    return found


def has_steps(config: Config) -> bool:
    """Whether the run's task can tell the first wrong step of a response."""
    if config.task.is_demonstrated:
        return True
    return config.task.task != "math" and callable(getattr(maker_class(config.task.task), "first_wrong_step", None))


def own_loss(spec: str) -> Loss:
    """The loss in FILE.py:CLASS. Raises UsageError if it cannot be made without arguments."""
    made = load(spec, [spec.rpartition(":")[2]], "losses")[0]
    with as_usage_error(f"--losses {spec}: expected a class that needs no arguments, got"):
        loss: Loss = made()
    return loss


@dataclass(frozen=True)
class Probe:
    """A candidate with its updater, on the minibatches of a step."""

    candidate: Candidate
    updater: Updater
    minibatches: list[list[MicroBatch]]

    def measure(self, index: int, known: list[KnownLogprobs], credits: Credits) -> tuple[float, dict[str, Column]]:
        """The norm of the gradient on one minibatch under the current weights, which is in the parameters' .grad.

        And what the loss saw of each token: weight, and log_ratio and future_kl if it computes them.
        """
        minibatch = [replace(batch, advantages=self.advantages(batch, credits)) for batch in self.minibatches[index]]
        gradient = self.updater.gradient(minibatch, known)
        columns = defaultdict[str, Column](dict)
        for batch, forward in zip(minibatch, gradient.forwards, strict=True):
            seen = forward.output.diagnostics
            whole = batch.advantages.new_tensor(batch.group_advantages)[:, None]
            given = seen.get("influence_weight", torch.ones_like(batch.advantages))
            found = {"weight": given * torch.where(whole == 0, 1.0, batch.advantages / whole)}
            found |= {"future_kl": seen["future_kl"]} if "future_kl" in seen else {}
            found |= {"log_ratio": -seen["kl_to_old"]} if "kl_to_old" in seen else {}
            for name, values in found.items():
                rows = values.detach().cpu().numpy()
                for row, response in zip(rows, batch.responses, strict=True):
                    columns[name][response.key] = row[: len(response.tokens)]
        return float(gradient.norm), columns

    def advantages(self, batch: MicroBatch, credits: Credits) -> Tensor:
        """The advantage of each token, with the candidate's changes."""
        whole = batch.advantages
        if self.candidate.truth is None:
            return torch.where(whole < 0, whole * self.candidate.negatives, whole)
        rows = [credits[response.key].by_token(len(response.tokens)) for response in batch.responses]
        if self.candidate.truth == "ranks":
            rows = [
                advantage * ranked(np.sign(advantage) * row)
                for advantage, row in zip(batch.group_advantages, rows, strict=True)
            ]
        return batch.tokens.spread(torch.tensor(np.concatenate(rows), dtype=whole.dtype, device=whole.device))


def ranked(values: np.ndarray) -> np.ndarray:
    """Weights from LOW to HIGH by rank; equal values have the mean of their ranks, a single one the weight 1."""
    if len(values) == 1:
        return np.ones(1)
    weights: np.ndarray = LOW + (HIGH - LOW) * (rankdata(values) - 1) / (len(values) - 1)
    return weights


def probes(candidates: Mapping[str, Candidate], groups: Sequence[Group], task: Task, own: Updater) -> dict[str, Probe]:
    """Each candidate on a step's groups of responses; `own`: the run's updater."""
    found = {}
    for name, candidate in candidates.items():
        config = config_of(candidate, own.config)
        loss = own_loss(candidate.own_loss) if candidate.own_loss else make_loss(config)
        minibatches = plan_minibatches(list(groups), own.policy, task, config)
        found[name] = Probe(candidate, replace(own, loss=loss, config=config), minibatches)
    return found


def config_of(candidate: Candidate, config: Config) -> Config:
    """The run's config under a candidate. Raises UsageError if a setting of the run excludes it."""
    changed = SHIPPED[candidate.like].settings if candidate.like else {}
    own = {"control": candidate.control, "allow_inert": True}
    return with_loss(config, {"placebo": "none", **PUBLISHED, **changed, **candidate.settings, **own})
