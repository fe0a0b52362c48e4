"""Studies of several blocks whose truth is known, as folders."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.analysis import folders

RATES = (1e-4, 2e-4, 4e-4)


@dataclass(frozen=True)
class BlockTruth:
    """Where each arm ends, at every level of what the block varies."""

    ends: Mapping[str, tuple[float, ...]]
    varied: str | None = None
    levels: tuple[Any, ...] = (None,)
    seeds: int = 6
    first_seed: int = 0


STANDARD = {
    "preset": BlockTruth({"dapo": (0.80,), "fipo": (0.80,)}),
    "controls": BlockTruth({"dapo": (0.80,), "blame": (0.93,), "damp": (0.88,), "random_blame": (0.82,)}),
    "negative": BlockTruth(
        {"dapo": (0.80,), "fipo": (0.80,), "random_reward": (0.2,), "unit_weights": (0.80,)}, seeds=3
    ),
    "again": BlockTruth({"dapo_again": (0.80,)}, first_seed=102),
    "rates": BlockTruth({"dapo": (0.6, 0.8, 0.3), "fipo": (0.6, 0.8, 0.3), "fipo_wide": (0.6, 0.8, 0.8)}, "lr", RATES),
    "stress": BlockTruth(
        {"dapo": (0.6,), "fipo": (0.6,), "fipo_wide": (0.85,), "wide_sign_mean": (0.85,), "wide_shuffle_batch": (0.65,)}
    ),
    "decay_rate": BlockTruth({"fipo_wide": (0.8, 0.8, 0.8)}, "fipo_decay_rate", (2.0, 32.0, 512.0)),
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
    extra = {key: changes.pop(key) for key in ("from", "to", "parameter", "direction") if key in changes}
    extra |= {"baseline": baseline} if baseline else {}
    return CLAIM.format(**values | changes) + "".join(f"{key} = {json.dumps(value)}\n" for key, value in extra.items())


CLAIMS = "".join(
    [
        claim("fipo_above_dapo", "preset/fipo", "preset/dapo", "auc"),
        claim("wide_above_dapo_under_stress", "stress/fipo_wide", "stress/dapo", "final_accuracy"),
        claim("token_weights_above_sign_means", "stress/fipo_wide", "stress/wide_sign_mean", "final_accuracy"),
        claim("placement_of_blame", "controls/blame", "controls/random_blame", "auc"),
        claim("wide_holds_over_more_rates", "rates/fipo_wide", "rates/dapo", "rate_range"),
        claim("fipo_above_dapo_at_own_best", "rates/fipo", "rates/dapo", "own_best_accuracy"),
        claim(
            "token_weights_above_shuffled",
            "stress/fipo_wide",
            "stress/wide_shuffle_batch",
            "final_accuracy",
            role="exploratory",
        ),
        claim(
            "decay_rate_matters_little",
            "decay_rate/fipo_wide",
            None,
            "final_accuracy",
            role="exploratory",
            kind="equivalent",
            margin=0.2,
            parameter="fipo_decay_rate",
            **{"from": 2.0, "to": 512.0},
        ),
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
                cell = f"{name}.{arm}" if level is None else f"{name}.{arm}.{level}"
                same = name in ("preset", "controls", "negative") and arm in ("dapo", "unit_weights", "fipo")
                key = ("dapo" if arm != "fipo" else "fipo") if same else ""
                cells[cell] = truth_of(arm, ends[place], block, cell, key)
                listed.append({"arm": arm, "level": level, "cell": cell})
        settings = {"question": f"What of {name}?", "settings": {}, "varied": block.varied, "cells": listed}
        design[name] = settings | {"seeds": block.seeds, "first_seed": block.first_seed}
    described = {"name": "made", "title": "A made study", "warm_starts": 3, "blocks": design}
    truth = folders.StudyTruth(tuple(cells.values()), fields={"design": described}, claims=claims)
    return folders.write_study(folder, folders.smaller(truth, **sizes))


def truth_of(arm: str, end: float, block: BlockTruth, cell: str, key: str) -> folders.ArmTruth:
    """What the cell's runs do."""
    control = arm if arm in ("blame", "random_reward") else "none"
    loss = "fipo" if arm.startswith(("fipo", "wide")) else "grpo" if arm == "grpo" else "dapo"
    base = folders.ArmTruth(cell, loss, control, block.seeds, end=end, pace=1.0, key=key)
    return replace(base, first_seed=block.first_seed)
