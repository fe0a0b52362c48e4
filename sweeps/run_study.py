"""The command `study`: all blocks of a design as one study, interruptible and resumable."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import UsageError, settings_in
from sweeps.comparison import Comparison, compare, end_like_ctrl_c, usable_cores
from sweeps.study.arms import Arm, Family, check_differences, differences_between, load_family
from sweeps.study.blocks import Cell, Design, cells_of, load_design
from sweeps.study.claims import check_claims, fixed_claims
from sweeps.study.folder import locked, other_study, read_json
from sweeps.workers.slots import LocalSlot


def study_command(options: argparse.Namespace) -> None:
    """Run what is not finished yet; the same command again goes on."""
    end_like_ctrl_c()
    if options.slots < 0:
        raise UsageError(f"--slots: expected 0 (one per core) or more, got {options.slots}")
    if options.seeds is not None and options.seeds < 1:
        raise UsageError(f"--seeds: expected 1 or more, got {options.seeds}")
    design = load_design(options.design)
    family = load_family(design.family)
    flags = settings_in(vars(options))
    arms, blocks = cells_of(design, family, flags, options.seeds)
    for cells in blocks.values():
        check_block(cells, arms, family)
    study = Path(options.study or f"runs/study-{design.name}")
    if (study / "config.json").exists():
        raise UsageError(f"--study: expected a folder of its own, got {str(study)!r}, which holds a run: name another")
    claims = options.claims or design.claims
    check_claims(claims)
    described = description(design, blocks, flags, options.seeds)
    with locked(study):
        check_same(study, described)
        slots = options.slots or max(1, usable_cores() // arms[0].any_config.run.threads)
        fixed = fixed_claims(study, claims)
        comparison = Comparison(study, family, design.preset, arms, differences_between(arms, family), fixed, described)
        compare(comparison, [LocalSlot(str(number)) for number in range(slots)])


def check_block(cells: list[Cell], arms: list[Arm], family: Family) -> None:
    """Raise UsageError where the arms of a block differ, at one level, in more than the family admits."""
    by_name = {arm.name: arm for arm in arms}
    for level in {repr(cell.level) for cell in cells}:
        at_level = [by_name[cell.cell] for cell in cells if repr(cell.level) == level]
        named = {cell.cell: cell.arm for cell in cells}
        renamed = [Arm(named[arm.name], arm.settings, arm.configs) for arm in at_level]
        check_differences(differences_between(renamed, family), family)


def description(
    design: Design, blocks: Mapping[str, list[Cell]], flags: Mapping[str, Any], most_seeds: int | None
) -> dict[str, Any]:
    """What study.json says of the design."""
    return {
        "name": design.name,
        "title": design.title,
        "sha256": design.sha256,
        "warm_starts": design.warm_starts,
        "flags": dict(flags),
        "most_seeds": most_seeds,
        "blocks": {
            name: {
                "question": block.question,
                "first_seed": block.first_seed,
                "baseline": block.baseline or block.arms[0],
                "seeds": min(block.seeds, most_seeds or block.seeds),
                "settings": dict(block.settings),
                "varied": next(iter(block.vary), None),
                "cells": [asdict(cell) for cell in blocks[name]],
            }
            for name, block in design.blocks.items()
        },
    }


def check_same(study: Path, described: Mapping[str, Any]) -> None:
    """Raise UsageError where the folder holds another study, or none that this command made."""
    recorded = read_json(study / "study.json")
    if recorded is None:
        return
    before = recorded.get("design") if isinstance(recorded, dict) else None
    if not isinstance(before, dict):
        raise other_study(study, "it was not made by `sweeps study`")
    for field, words in (
        ("sha256", "another design"),
        ("flags", "other settings on the command line"),
        ("most_seeds", "another --seeds"),
    ):
        if before.get(field) != described[field]:
            raise other_study(study, f"it was begun with {words}")
