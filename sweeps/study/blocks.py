"""A study of several blocks: comparisons, each with its own arms, settings and up to two varied settings, run as one.

Every (arm, settings) pair is a cell. What two blocks share is one cell and runs once, for the larger number of seeds.
"""

import hashlib
import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness import UsageError, resolve, section_of
from sweeps.study.arms import Arm, ArmName, Family, check_differences, differences_between, load_toml, settings_of
from sweeps.study.folder import identity, other_study, read_json

DESIGNS = Path(__file__).parents[1] / "studies"
SET_BY_STUDY = ("loss_type", "seed", "model_seed", "control", "placebo", "output_dir")
Number = Annotated[int, Field(ge=1)]


class Block(BaseModel):
    """One question, and the runs that answer it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    arms: tuple[ArmName, ...] = Field(min_length=1)
    seeds: Number
    first_seed: int = Field(default=0, ge=0)
    settings: Mapping[str, Any] = {}
    vary: Mapping[str, list[Any]] = Field(default={}, max_length=2)
    baseline: str | None = None  # the arm that the others' gains are taken over; by default the first

    @property
    def levels(self) -> list[dict[str, Any]]:
        """Every combination of the varied settings' values; a single empty one where nothing is varied."""
        return [dict(zip(self.vary, values, strict=True)) for values in product(*self.vary.values())]


class Design(BaseModel):
    """The blocks of a study and what they share. Seed s starts from the warm start `model_seed` = s mod warm_starts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    family: str
    preset: str
    claims: str
    warm_starts: Number
    settings: Mapping[str, Any] = {}
    blocks: Mapping[ArmName, Block] = Field(min_length=1)

    @model_validator(mode="after")
    def check_names(self) -> "Design":
        """Refuse what is no setting, or set by the study itself."""
        named = [self.settings, *(one for block in self.blocks.values() for one in (block.settings, block.vary))]
        for settings in named:
            for field in settings:
                if field not in section_of() or field in SET_BY_STUDY:
                    raise ValueError(f"{field!r} is no setting that a study may set")
        return self

    @property
    def sha256(self) -> str:
        """Identity of the design."""
        return hashlib.sha256(
            json.dumps(self.model_dump(mode="json", exclude_defaults=True), sort_keys=True).encode()
        ).hexdigest()


def load_design(name: str) -> Design:
    """A shipped design (`standard`), or one from a TOML file."""
    return load_toml(Design, name, DESIGNS, "--design")


def planned(
    design: Design,
    family: Family,
    flags: Mapping[str, Any],
    most_seeds: int | None = None,
    preset: str | None = None,
) -> tuple[list[Arm], dict[str, Any]]:
    """The study's arms, one per cell, and what study.json says of the design; `flags` hold for every run.

    most_seeds: no block runs more seeds than this. preset: in place of the design's.
    A cell is {"arm", "level", "cell"}: an arm at a level of what its block varies (the value, a list of both where two
    are varied, null where none is), and the study's arm that holds its runs.
    Raises UsageError where the arms of a block differ, at one level, in more than the family admits.
    """
    varied = {name for block in design.blocks.values() for name in block.vary}
    for flag in flags:
        if flag in SET_BY_STUDY or flag in varied:
            raise UsageError(f"--{flag} is set by the study itself: write a design of your own, passed as --design")
    arms, blocks = dict[tuple[str, str], Arm](), dict[str, dict[str, Any]]()
    for block_name, block in design.blocks.items():
        count, cells = min(block.seeds, most_seeds or block.seeds), []
        seeds = range(block.first_seed, block.first_seed + count)
        for level in block.levels:
            at_level, values = [], list(level.values())
            for arm in block.arms:
                own = {**settings_of(family, arm), **level}
                settings = {**design.settings, **block.settings, **flags, **own}
                keyed = {seed: {"seed": seed, "model_seed": seed % design.warm_starts} for seed in seeds}
                configs = {seed: resolve({**settings, **keyed[seed]}, preset or design.preset) for seed in seeds}
                at_level.append(Arm(arm, own, configs))
                key = arm, identity(configs[seeds[0]])
                known = arms.setdefault(key, Arm(".".join([block_name, arm, *map(str, values)]), own, {}))
                arms[key] = Arm(known.name, known.settings, {**known.configs, **configs})
                recorded = values if len(values) > 1 else next(iter(values), None)
                cells.append({"arm": arm, "level": recorded, "cell": known.name})
            check_differences(differences_between(at_level, family), family)
        told = block.model_dump(mode="json", include={"question", "first_seed", "settings"})
        told |= {"baseline": block.baseline or block.arms[0], "seeds": count, "varied": list(block.vary)}
        blocks[block_name] = {**told, "cells": cells}
    shared = {"name": design.name, "title": design.title, "sha256": design.sha256, "warm_starts": design.warm_starts}
    return list(arms.values()), {**shared, "flags": dict(flags), "most_seeds": most_seeds, "blocks": blocks}


def check_same_design(study: Path, described: Mapping[str, Any], preset: str) -> None:
    """Raise UsageError where the folder holds another study, or none that this command made."""
    recorded = read_json(study / "study.json")
    if recorded is None:
        return
    before = recorded.get("design") if isinstance(recorded, dict) else None
    if not isinstance(before, dict):
        raise other_study(study, "it was not made by `sweeps study`")
    if recorded.get("preset") != preset:
        raise other_study(study, f"it was begun with --preset {recorded.get('preset')}")
    for field, words in (
        ("sha256", "another design"),
        ("flags", "other settings on the command line"),
        ("most_seeds", "another --seeds"),
    ):
        if before.get(field) != described[field]:
            raise other_study(study, f"it was begun with {words}")
