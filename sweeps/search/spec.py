"""What a search is: losses, spaces, sampler, seeds, limits. Fixed when it begins, and written to study.json."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import Config, UsageError, config_sha256, flatten, resolve, tree_of
from sweeps.search.samplers import Sampler
from sweeps.search.spaces import Space
from sweeps.study.arms import Family
from sweeps.study.folder import SCHEMA_VERSION, PlannedRun, other_study, read_json
from sweeps.tracking.log import without_password

VALUE = "mean over the tuning seeds of the final accuracy: the mean of the last evaluations, on the tuning prompts"
PRUNER = {"name": "none", "arguments": {}}  # every trial runs to its end: learning curves cross
MAY_DIFFER = ("trials", "report_seeds", "controls", "labels")  # between two starts of a search
OWN_FILES = ("optuna.journal", "claims.toml", ".lock", ".track", "configs", "logs")  # before there is a study.json


@dataclass(frozen=True)
class Limits:
    """Constraints on a trial; None: no limit. A trial beyond one is shown, and never the best."""

    response_tokens: float | None = None  # mean tokens per answer at the last evaluations
    truncated_share: float | None = None  # share of answers cut off there
    collapse: float | None = 0.5  # least final accuracy of a seed, as a share of the accuracy before training

    def excess(self, facts: Mapping[str, Any]) -> dict[str, float]:
        """How far beyond each limit the trial is; at most 0 where it is within."""
        upper = {"response_tokens": self.response_tokens, "truncated_share": self.truncated_share}
        beyond = {name: facts[name] - limit for name, limit in upper.items() if limit is not None}
        if self.collapse is not None:
            beyond["collapse"] = self.collapse * facts["start_accuracy"] - min(facts["values"])
        return beyond


@dataclass(frozen=True)
class Search:
    """A search over one or several losses, each with the same number of trials, seeds, and tokens per run."""

    study: Path
    name: str  # in the storage: hosts without a common folder find each other by it
    storage: str | None  # URL; None: a journal in the study's folder
    preset: str
    family_name: str  # or its file's path, as --family has it
    family: Family
    space: str
    spaces: Mapping[str, Space]
    settings: Mapping[str, Mapping[str, Any]]  # by loss: what is not searched, over the preset
    controls: Mapping[str, str]  # by control that is run beside the winners: the loss whose best settings it has
    sampler: Sampler
    trials: int
    seeds: tuple[int, ...]
    report_seeds: tuple[int, ...]
    limits: Limits

    @property
    def losses(self) -> list[str]:
        """The losses in the order given."""
        return list(self.spaces)

    def config(self, loss: str, values: Mapping[str, Any], seed: int) -> Config:
        """The settings of a run of a trial."""
        return resolve({**self.settings[loss], **values, "seed": seed, "eval_split": "tune"}, self.preset)

    def typical_config(self, loss: str | None = None) -> Config:
        """A run of the loss, or the first, with the preset's own values for what is searched: to plan by."""
        loss = loss or self.losses[0]
        return self.config(loss, self.spaces[loss].fixed, self.seeds[0])

    def runs(self, loss: str, index: int, values: Mapping[str, Any]) -> list[PlannedRun]:
        """The runs of a trial, one per tuning seed."""
        arm = f"{loss}-trial{index:04d}"
        return [PlannedRun(arm, seed, self.config(loss, values, seed), self.study) for seed in self.seeds]

    def check(self) -> None:
        """Raise UsageError unless settings all over every space are valid: before anything starts."""
        for loss, space in self.spaces.items():
            for values in space.corners():
                try:
                    self.config(loss, values, self.seeds[0])
                except UsageError as error:
                    raise UsageError(f"--space {self.space}, {loss}: {error} (in the searched range)") from None

    def fingerprint(self, loss: str) -> str:
        """Identity of the loss's part of the search, by which a storage knows it again: not its folder or size."""
        described = comparable(self.described())
        kept = {name: described[name] for name in ("seeds", "limits", "value", "pruner", "sampler")}
        kept |= {"space": described["spaces"][loss], "settings": config_sha256(self.typical_config(loss))}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()

    def described(self) -> dict[str, Any]:
        """As study.json has it. `settings` are as the config has them, however the flags spelled them."""
        resolved = {loss: flatten(tree_of(self.typical_config(loss))) for loss in self.losses}
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": "search",
            "name": self.name,
            "preset": self.preset,
            "family": self.family_name,
            "storage": without_password(self.storage) if self.storage else None,
            "losses": self.losses,
            "labels": {loss: label for loss in self.losses if (label := self.family.about(loss)["label"])},
            "space": self.space,
            "spaces": {
                loss: {name: one.described() for name, one in space.parameters.items()}
                for loss, space in self.spaces.items()
            },
            "settings": {loss: {name: resolved[loss][name] for name in self.settings[loss]} for loss in self.losses},
            "controls": dict(self.controls),
            "sampler": asdict(self.sampler),
            "pruner": PRUNER,
            "value": VALUE,
            "trials": self.trials,
            "seeds": list(self.seeds),
            "report_seeds": list(self.report_seeds),
            "token_budget": self.typical_config().run.token_budget,
            "limits": asdict(self.limits),
        }


def check_same(new: Mapping[str, Any], study: Path) -> Mapping[str, Any] | None:
    """What study.json says already, or None. Raises UsageError unless it is this search, with no fewer trials."""
    old = read_json(study / "study.json")
    if old is None:  # no search has left more than its own files when it was killed as it began
        found = sorted(path.name for path in study.iterdir()) if study.is_dir() else []
        if foreign := [name for name in found if not name.startswith(OWN_FILES)]:
            raise other_study(study, f"it holds {foreign[0]}")
        return None
    if not isinstance(old, dict) or old.get("kind") != "search":
        raise other_study(study, "it is no search's")
    known = {name: old.get(name) for name in new}
    if other := difference("", comparable(new), comparable(known)):
        raise other_study(study, f"its {other}")
    if new["trials"] < old["trials"]:
        raise UsageError(
            f"--trials: expected at least the {old['trials']} that {str(study)!r} has, got {new['trials']}"
        )
    return old


def comparable(described: Mapping[str, Any]) -> dict[str, Any]:
    """A description without what may differ between two starts of a search: also Optuna's version, and how many random
    trials the number of trials led to.
    """
    kept = {name: value for name, value in described.items() if name not in MAY_DIFFER}
    sampler = {name: value for name, value in (kept["sampler"] or {}).items() if name != "optuna"}
    arguments = {name: one for name, one in sampler.get("arguments", {}).items() if name != "n_startup_trials"}
    return {**kept, "sampler": {**sampler, "arguments": arguments}}


def difference(place: str, ours: Any, theirs: Any) -> str | None:
    """The first entry in which two settings differ, in words."""
    if ours == theirs:
        return None
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for name in dict.fromkeys([*ours, *theirs]):
            if found := difference(f"{place}.{name}", ours.get(name), theirs.get(name)):
                return found
    return f"{place.removeprefix('.')} is {theirs}, not {ours}"
