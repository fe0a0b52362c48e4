"""Studies made in memory from the scores that their runs are to have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.records.claims import Claim, Claims
from analysis.records.design import Arm, Block, Cell, Role
from analysis.records.outcomes import OUTCOMES
from analysis.records.study import Study

DAPO, FIPO = Role("DAPO"), Role("FIPO")
BLAME = Role("blame", "dapo", "positive", "dapo", True)
DAMP = Role("damp", "dapo", "placebo", "blame", True)
ROLES = {"dapo": DAPO, "fipo": FIPO, "blame": BLAME, "damp": DAMP}
CLAIM = Claim("better", "FIPO learns faster than DAPO", "a test", "primary", "superior", "fipo", "auc", 0.0, "dapo")


@dataclass(frozen=True)
class Made:
    """A block: the scores by seed of each arm, at each of its levels where it varies something.

    Equal scores are equal runs. columns: other columns of the scores, by name and arm or by name alone.
    """

    arms: Mapping[str, Sequence[Any]]
    baseline: str = "dapo"
    varied: tuple[str, ...] = ()
    levels: tuple[Any, ...] = (None,)
    first_seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)
    collapsed: frozenset[tuple[str, int]] = frozenset()


def study_of(
    blocks: Mapping[str, Made],
    claims: Sequence[Claim] = (),
    roles: Mapping[str, Role] = ROLES,
    warm_starts: int = 1,
) -> tuple[Study, pd.DataFrame]:
    """The study and its table of outcomes."""
    cells, rows = [], []
    for name, made in blocks.items():
        for arm, scores in made.arms.items():
            for place, level in enumerate(made.levels):
                cell = Cell(name, arm, level, place, f"{name}.{arm}.{place}")
                cells.append(cell)
                of_level = scores[place] if made.varied else scores
                seeds = range(made.first_seed, made.first_seed + len(of_level))
                rows += [_row(cell, seed, float(x), made) for seed, x in zip(seeds, of_level, strict=True)]
    table = pd.DataFrame(rows).assign(warm_start=lambda found: found["seed"] % warm_starts)
    runs = table[["run", "seed"]].assign(arm=table["cell"], state="finished", reason="", steps_done=2)
    study = Study(
        name="made",
        arms=tuple(Arm(cell.cell, "dapo", tuple(table.query("cell == @cell.cell")["seed"])) for cell in cells),
        runs=runs,
        metrics=_repeated(runs, {"rollout/accuracy": table["auc"], "optimizer/grad_norm": table["auc"] + 1}),
        evals=_repeated(runs, {"correct": True, "response_tokens": 10, "truncated": False}, prompt_id="p", sample=0),
        environments=pd.DataFrame({"run": runs["run"], "started_at": None, "threads": 1}),
        description={"design": {}, "roles": {}, "claims": {"fixed_at": ""}},
        folders={run: Path(run) for run in runs["run"]},
        configs={run: {"run": {"steps": 2}} for run in runs["run"]},
        claims=Claims("made", "0" * 64, "A made study", tuple(claims)) if claims else None,
        suites={},
        blocks={name: _block(name, made) for name, made in blocks.items()},
        cells=tuple(cells),
        roles=roles,
        warm_starts=warm_starts,
    )
    return study, table


def _row(cell: Cell, seed: int, score: float, made: Made) -> dict[str, Any]:
    columns = {name: value[cell.arm] if isinstance(value, dict) else value for name, value in made.columns.items()}
    columns = {name: value[cell.place] if isinstance(value, tuple) else value for name, value in columns.items()}
    return {
        **vars(cell),
        **dict.fromkeys(OUTCOMES, score),
        "start_accuracy": 0.1,
        "lenient_start": 0.1,
        "lenient_final": score,
        "seed": seed,
        "run": f"{cell.cell}-seed{seed}",
        "collapsed": (cell.arm, seed) in made.collapsed,
        **columns,
    }


def _block(name: str, made: Made) -> Block:
    count = max(len(scores[0] if made.varied else scores) for scores in made.arms.values())
    about = {"seeds": count, "first_seed": made.first_seed, "settings": made.settings}
    return Block(name, "Why?", tuple(made.arms), made.baseline, made.varied, made.levels, **about)


def _repeated(runs: pd.DataFrame, columns: Mapping[str, Any], **more: Any) -> pd.DataFrame:
    """Two rows per run, of step 0 and 2."""
    table = runs[["run", "arm", "seed"]].assign(**columns, **more)
    return pd.concat([table.assign(step=0), table.assign(step=2)], ignore_index=True)
