"""Studies of several blocks whose truth is known, as folders."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.analysis import folders

RATES = (1e-4, 2e-4, 4e-4)
ROLES: dict[str, dict[str, Any]] = {
    "dapo": {"label": "DAPO"},
    "fipo": {"label": "FIPO"},
    "dapo_again": {"label": "DAPO, other seeds", "like": "dapo", "role": "repeat", "planted": True},
    "fipo_wide": {"label": "FIPO, wide weights"},
    "blame": {"label": "blame", "like": "dapo", "role": "positive", "against": "dapo", "planted": True},
    "damp": {"label": "spread blame", "like": "dapo", "role": "placebo", "against": "blame", "planted": True},
    "sign_mean": {"label": "mean per sign", "role": "placebo", "against": "fipo_wide", "planted": True},
    "random_reward": {"label": "random reward", "like": "dapo", "role": "negative", "against": "dapo", "planted": True},
    "unit_weights": {"label": "weights of 1", "like": "fipo", "role": "identical", "against": "dapo", "planted": True},
}


@dataclass(frozen=True)
class BlockTruth:
    """Where each arm ends, at every level of what the block varies."""

    ends: Mapping[str, tuple[float, ...]]
    varied: str | list[str] | None = None
    levels: tuple[Any, ...] = (None,)
    seeds: int = 6
    first_seed: int = 0


STANDARD = {
    "preset": BlockTruth({"dapo": (0.80,), "fipo": (0.80,)}),
    "controls": BlockTruth({"dapo": (0.80,), "blame": (0.93,), "damp": (0.88,)}),
    "negative": BlockTruth({"dapo": (0.80,), "random_reward": (0.2,), "unit_weights": (0.80,)}, seeds=3),
    "again": BlockTruth({"dapo_again": (0.80,)}, first_seed=102),
    "rates": BlockTruth({"dapo": (0.6, 0.8, 0.3), "fipo": (0.6, 0.8, 0.2)}, "lr", RATES),
    "stress": BlockTruth({"dapo": (0.6,), "fipo_wide": (0.85,), "sign_mean": (0.83,)}),
    "pair": BlockTruth(
        {"fipo_wide": (0.8, 0.8, 0.8, 0.8)},
        ["fipo_clip_range", "fipo_safety_threshold"],
        ([0.2, 3.0], [0.2, 10.0], [0.4, 3.0], [0.4, 10.0]),
    ),
}

CLAIM = """
[[claim]]
id = "{id}"
text = "{id} is so"
source = "a test"
role = "{role}"
kind = "{kind}"
arm = "{arm}"
metric = "{metric}"
margin = {margin}
"""


def claim(name: str, arm: str, baseline: str | None, metric: str, **changes: Any) -> str:
    """A claim of a claims file."""
    values = {"id": name, "role": "primary", "kind": "superior", "arm": arm, "metric": metric, "margin": 0.0}
    extra: dict[str, Any] = {
        key: changes.pop(key) for key in ("from", "to", "parameter", "direction", "levels") if key in changes
    }
    extra |= {"baseline": baseline} if baseline else {}
    return CLAIM.format(**values | changes) + "".join(f"{key} = {json.dumps(value)}\n" for key, value in extra.items())


CLAIMS = "".join(
    [
        claim("fipo_above_dapo", "preset/fipo", "preset/dapo", "auc"),
        claim("wide_above_dapo_under_stress", "stress/fipo_wide", "stress/dapo", "final_accuracy"),
        claim("token_weights_above_sign_means", "stress/fipo_wide", "stress/sign_mean", "final_accuracy"),
        claim("fipo_above_dapo_at_own_best", "rates/fipo", "rates/dapo", "final_accuracy", levels="own_best"),
        claim("unit_weights_do_nothing", "negative/unit_weights", "negative/dapo", "auc", role="exploratory"),
        claim("not_run", "preset/grpo", "preset/dapo", "auc", role="exploratory"),
    ]
)


def write_block_study(
    folder: Path, blocks: Mapping[str, BlockTruth] = STANDARD, claims: str = CLAIMS, **sizes: Any
) -> Path:
    """A finished study. An arm of the same name and level is one cell; `dapo` and `unit_weights` draw the same."""
    cells = dict[str, folders.ArmTruth]()
    design = {}
    for name, block in blocks.items():
        listed = []
        for place, level in enumerate(block.levels):
            for arm, ends in block.ends.items():
                cell = f"{name}.{arm}" if level is None else f"{name}.{arm}.{place}"
                same = name in ("preset", "controls", "negative") and arm in ("dapo", "unit_weights")
                cells[cell] = truth_of(arm, ends[place], block, cell, "dapo" if same else "")
                listed.append({"arm": arm, "level": level, "cell": cell})
        settings: dict[str, Any] = {
            "question": f"What of {name}?",
            "settings": {},
            "varied": block.varied,
            "cells": listed,
        }
        baseline = "dapo" if "dapo" in block.ends else next(iter(block.ends))
        design[name] = settings | {"seeds": block.seeds, "first_seed": block.first_seed, "baseline": baseline}
    described = {"name": "made", "title": "A made study", "warm_starts": 3, "blocks": design}
    fields = {"design": described, "roles": ROLES}
    truth = folders.StudyTruth(tuple(cells.values()), fields=fields, claims=claims)
    return folders.write_study(folder, folders.smaller(truth, **sizes))


def truth_of(arm: str, end: float, block: BlockTruth, cell: str, key: str) -> folders.ArmTruth:
    """What the cell's runs do."""
    control = arm if arm in ("blame", "random_reward") else "none"
    loss = "fipo" if arm.startswith(("fipo", "sign")) else "dapo"
    base = folders.ArmTruth(cell, loss, control, block.seeds, end=end, pace=1.0, key=key)
    return replace(base, first_seed=block.first_seed)
