"""What a search is: a field for each flag of `search`, and what follows from them."""

import argparse
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from harness import Config, UsageError, add_setting_flags, one_line, resolve, settings_in
from sweeps.search.samplers import sampler_of
from sweeps.search.spaces import Space, load_space
from sweeps.study.arms import Family, load_family, scaffold_settings
from sweeps.study.claims import add_claims
from sweeps.study.folder import PlannedRun
from sweeps.tracking.log import add_tracking_uri

FIRST_TUNING_SEED = 1000  # far from those that report, which begin at 0
JOURNAL = "journal"


def flag(default: Any, shown: str, words: str, **limits: Any) -> Any:
    """A field that is a flag: its default, what stands for its value in the help, the help, and pydantic's limits."""
    return Field(default, title=shown, description=words, **limits)


class Search(BaseModel):
    """A search over one or several losses, each with the same number of trials, seeds, and tokens per run."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    losses: tuple[str, ...] = flag(("fipo",), "A,B", "searched apart")
    controls: tuple[str, ...] = flag((), "A,B", "run beside the winners, at the best settings of the loss each is like")
    space: str = flag("default", "NAME", "default (each loss's own), grpo, dapo, fipo, rivals, shared, or a TOML file")
    preset: str = flag("demo", "NAME", "what all runs share")
    family: str = flag("controlled", "F", "whose arms the losses are")
    trials: int = flag(12, "N", "trials per loss", ge=1)
    seeds: int = flag(2, "N", "tuning seeds per trial, from 1000", ge=1)
    report_seeds: int = flag(5, "N", "fresh seeds for the winners, from 0", ge=0, le=FIRST_TUNING_SEED)
    sampler: Literal["tpe", "qmc", "random"] = flag("tpe", "S", "tpe, qmc or random")
    sampler_seed: int = flag(0, "N", "keys its draws")
    limit_response_tokens: float | None = flag(None, "N", "mean tokens per answer that the best may have", gt=0)
    limit_truncated_share: float | None = flag(None, "S", "share of answers cut off that the best may have", ge=0, le=1)
    limit_collapse: float | None = flag(0.5, "S", "least final accuracy of a seed, relative to the start", ge=0, le=1)
    max_hours: float | None = flag(None, "H", "end this start's trials after so long", gt=0)
    study: Path = flag(None, "DIR", "study folder (default: runs/search-<time>)")
    storage: str = flag(JOURNAL, "URL", "journal (in the study's folder), sqlite:///FILE, or postgresql://USER@HOST/DB")
    study_name: str | None = flag(None, "NAME", "in the storage, the same on every host (default: the folder's name)")
    slots: int = flag(0, "N", "runs at a time; 0: one per core", ge=0)
    gpus_per_trial: int = flag(0, "N", "GPUs of a run, of those that may be seen; 0: train on the CPU", ge=0)
    flags: Mapping[str, Any] = {}  # settings for all runs

    @field_validator("losses", "controls", mode="before")
    @classmethod
    def split(cls, names: Any) -> Any:
        """Names of a text like a,b."""
        return tuple(filter(None, names.split(","))) if isinstance(names, str) else names

    @property
    def name(self) -> str:
        """Its name in the storage, by which hosts without a common folder find each other."""
        return self.study_name or self.study.resolve().name

    @property
    def url(self) -> str | None:
        """The address of the storage; None for the journal in the study's folder."""
        return None if self.storage == JOURNAL else self.storage

    @property
    def tuning_seeds(self) -> range:
        """The seeds of every trial."""
        return range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + self.seeds)

    @cached_property
    def arms(self) -> Family:
        """The family. Raises UsageError."""
        return load_family(self.family)

    @cached_property
    def spaces(self) -> dict[str, Space]:
        """By loss. Raises UsageError."""
        return {loss: load_space(self.space, loss) for loss in self.losses}

    @cached_property
    def sampling(self) -> dict[str, Any]:
        """The sampler with all its arguments, as study.json has it."""
        return sampler_of(self.sampler, self.trials, self.sampler_seed)

    @cached_property
    def settings(self) -> dict[str, dict[str, Any]]:
        """By loss what is not searched: flags, the family's arm, the budget of tokens per run. Raises UsageError."""
        flags, found = dict(self.flags), dict[str, dict[str, Any]]()
        if self.gpus_per_trial:  # `train` starts its ranks itself
            flags |= {"backend": "deepspeed", "nproc": self.gpus_per_trial}
        for loss, space in self.spaces.items():
            arm = scaffold_settings(self.arms, loss, flags)
            if taken := [name for name in flags if name in space.parameters or name == "eval_split"]:
                raise UsageError(f"--{taken[0]} is searched, or set by the search itself: drop it")
            found[loss] = flags | {name: value for name, value in arm.items() if name not in space.parameters}
        if len(found) > 1 and "token_budget" not in flags:  # losses side by side: a round of full responses per step
            config = resolve(flags, self.preset)
            budget = config.run.steps * config.responses_per_step * config.rollout.max_response_tokens
            found = {loss: {**settings, "token_budget": budget} for loss, settings in found.items()}
        return found

    @cached_property
    def controlled(self) -> dict[str, str]:
        """By control the loss searched that it is like, or like whose like it is. Raises UsageError where none is."""
        found = {}
        for control in self.controls:
            like = control if control in self.arms.controls else None
            while like is not None and like not in self.losses:
                like = self.arms.tables.get(like, {}).get("like")
            if like is None:
                raise UsageError(
                    f"--controls: expected controls of family {self.arms.name!r} "
                    f"({', '.join(self.arms.controls) or 'none'}) that are like a loss searched "
                    f"({', '.join(self.losses)}), got {control!r}: choose from these"
                )
            found[control] = like
        return found

    def config(self, loss: str, values: Mapping[str, Any], seed: int) -> Config:
        """The settings of a run of a trial."""
        return resolve({**self.settings[loss], **values, "seed": seed, "eval_split": "tune"}, self.preset)

    def typical_config(self, loss: str | None = None) -> Config:
        """A run of the loss, or the first, with the preset's own values for what is searched: to plan by."""
        loss = loss or self.losses[0]
        return self.config(loss, self.spaces[loss].fixed, FIRST_TUNING_SEED)

    def runs(self, loss: str, index: int, values: Mapping[str, Any]) -> list[PlannedRun]:
        """The runs of a trial, one per tuning seed."""
        arm = f"{loss}-trial{index:04d}"
        return [PlannedRun(arm, seed, self.config(loss, values, seed), self.study) for seed in self.tuning_seeds]

    def excess(self, facts: Mapping[str, Any]) -> dict[str, float]:
        """How far a trial is beyond each limit; at most 0 where it is within. One beyond is never the best."""
        upper = {"response_tokens": self.limit_response_tokens, "truncated_share": self.limit_truncated_share}
        beyond = {name: facts[name] - limit for name, limit in upper.items() if limit is not None}
        if self.limit_collapse is not None:
            beyond["collapse"] = self.limit_collapse * facts["start_accuracy"] - min(facts["values"])
        return beyond

    def check(self) -> None:
        """Raise UsageError unless all fits together, and settings all over every space are valid."""
        if not self.losses or len(set(self.losses)) < len(self.losses):
            got = ",".join(self.losses)
            raise UsageError(f"--losses: expected one or more different losses, separated by commas, got {got!r}")
        resolve({}, self.preset)  # raises where there is none of that name
        _ = self.controlled  # raises too
        for loss in self.settings:
            for values in self.spaces[loss].corners():
                try:
                    self.config(loss, values, FIRST_TUNING_SEED)
                except UsageError as error:
                    raise UsageError(f"--space {self.space}, {loss}: {error} (in the searched range)") from None


def add_search_flags(parser: argparse.ArgumentParser) -> None:
    """What is searched, how, where, and until when; then a flag for every setting that all runs share."""
    group = parser.add_argument_group("search")
    for name, field in Search.model_fields.items():
        if words := field.description:
            known = ",".join(field.default) if isinstance(field.default, tuple) else field.default
            words += "" if "default" in words else f" (default: {'none' if known in (None, '') else known})"
            names = ("--losses", "--loss") if name == "losses" else (f"--{name}",)
            group.add_argument(*names, metavar=field.title, help=words)
    add_claims(group)
    add_tracking_uri(group)
    add_setting_flags(parser)


def search_of(options: argparse.Namespace) -> Search:
    """The search that the flags ask for. Raises UsageError on what does not fit together."""
    given = {name: value for name in Search.model_fields if (value := getattr(options, name, None)) is not None}
    given.setdefault("study", f"runs/search-{datetime.now():%Y%m%d-%H%M%S}")
    try:
        search = Search(**given, flags=settings_in(vars(options)))
    except ValidationError as error:
        raise UsageError(one_line(error)) from None
    search.check()
    return search
