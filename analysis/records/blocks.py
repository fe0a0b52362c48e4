"""A study of several blocks -> one table of scores, a row per block, arm, level and seed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import RecordsError
from analysis.records.alike import alike
from analysis.records.outcomes import outcomes
from analysis.records.records import Study, read_study
from analysis.records.run_files import read_json

COURSE = {  # means over a run's steps, of what its updates looked like
    "gradient_norm": "optimizer/grad_norm",
    "clipped_share": "optimizer/clipped_share",
    "step_norm": "optimizer/step_norm",
    "kl_to_old": "loss/kl_to_old",
    "influence_weight": "loss/influence_weight",
    "moved_share": "loss/influence_weight_moved",
    "low_share": "loss/influence_weight_at_low",
    "high_share": "loss/influence_weight_at_high",
    "safety_share": "loss/safety_fraction",
}
SCORES = ("auc", "final_accuracy", "start_accuracy", "final_response_tokens")


@dataclass(frozen=True)
class Block:
    """One question of the study: its arms at the levels of what it varies, None where it varies nothing."""

    name: str
    question: str
    arms: tuple[str, ...]
    varied: str | None
    levels: tuple[Any, ...]
    seeds: int
    first_seed: int


@dataclass(frozen=True)
class BlockStudy:
    """A study whose arms are the cells of its blocks.

    scores: a row per block, arm, level and seed that counts: these, warm_start, run, SCORES, the names of COURSE, and
    `collapsed`, whether the run diverged or ended no better than it began. planned: how many there should be.
    """

    study: Study
    blocks: Mapping[str, Block]
    scores: pd.DataFrame
    planned: int
    warm_starts: int

    @property
    def is_complete(self) -> bool:
        """Whether every planned run counts."""
        return len(self.scores) == self.planned

    def of(self, block: str, arm: str | None = None) -> pd.DataFrame:
        """The rows of a block, or of one arm in it."""
        rows = self.scores[self.scores["block"] == block]
        return rows if arm is None else rows[rows["arm"] == arm]

    def by_level(self, block: str, arm: str, metric: str) -> pd.DataFrame:
        """A score [seed, level] of an arm, the seeds that have every level."""
        rows = self.of(block, arm)
        return rows.pivot(index="seed", columns="level", values=metric).dropna()


def is_block_study(folder: Path) -> bool:
    """Whether the folder is a study of several blocks."""
    path = folder / "study.json"
    return path.is_file() and isinstance(read_json(path).get("design"), dict)


def read_block_study(folder: Path, skip_bad: bool = False) -> BlockStudy:
    """Read it. Raises RecordsError where runs of one warm start cannot be compared."""
    study = read_study(folder, skip_bad)
    design = study.description["design"]
    try:
        blocks = {name: _block(name, row) for name, row in design["blocks"].items()}
        cells = [cell | {"block": name} for name, row in design["blocks"].items() for cell in row["cells"]]
        starts = int(design["warm_starts"])
    except (KeyError, TypeError, ValueError) as error:
        raise RecordsError(
            f"expected blocks with cells in {folder / 'study.json'}, got no {error}: restore it"
        ) from None
    scores = _scores(study, cells, design, starts)
    for start in range(starts):
        _alike_within(study, start, starts)
    planned = sum(len(row["cells"]) * int(row["seeds"]) for row in design["blocks"].values())
    return BlockStudy(study, blocks, scores, planned, starts)


def _block(name: str, row: Mapping[str, Any]) -> Block:
    arms = tuple(dict.fromkeys(str(cell["arm"]) for cell in row["cells"]))
    levels = tuple(dict.fromkeys(cell["level"] for cell in row["cells"]))
    return Block(name, str(row["question"]), arms, row["varied"], levels, int(row["seeds"]), int(row["first_seed"]))


def _scores(study: Study, cells: list[dict[str, Any]], design: Mapping[str, Any], starts: int) -> pd.DataFrame:
    table = outcomes(study)[["run", "arm", "seed", *SCORES]].rename(columns={"arm": "cell"})
    fell = table["final_accuracy"] <= table["start_accuracy"]
    table = table.assign(collapsed=fell | table["run"].isin(study.diverged), warm_start=table["seed"] % starts)
    recorded = {name: key for name, key in COURSE.items() if key in study.metrics}
    means = study.metrics.groupby("run")[list(recorded.values())].mean()
    table = table.merge(
        means.rename(columns={key: name for name, key in recorded.items()}), left_on="run", right_index=True
    )
    rows = pd.DataFrame(cells).merge(table, on="cell")
    first = rows["block"].map({name: int(row["first_seed"]) for name, row in design["blocks"].items()})
    count = rows["block"].map({name: int(row["seeds"]) for name, row in design["blocks"].items()})
    return rows[(rows["seed"] >= first) & (rows["seed"] < first + count)].reset_index(drop=True)


def _alike_within(study: Study, start: int, starts: int) -> None:
    """Raise RecordsError where runs from one warm start differ in what would be taken for the losses' doing."""
    runs = study.runs
    own = set(runs.loc[(runs["seed"] % starts == start) & runs["run"].isin(study.folders), "run"])
    if own:
        environments = study.environments[study.environments["run"].isin(own)]
        configs = {run: config for run, config in study.configs.items() if run in own}
        alike(Study(**{**vars(study), "environments": environments, "configs": configs}))
