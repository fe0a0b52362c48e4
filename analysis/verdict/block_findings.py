"""All that a study of several blocks shows, computed once for its page, its figures and its files."""

from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from analysis.formatting import scientific
from analysis.records.blocks import Block, BlockStudy
from analysis.statistics.intervals import t_interval
from analysis.statistics.variance import Variance, variance
from analysis.verdict.block_controls import ControlRow, block_controls
from analysis.verdict.block_verdicts import BlockVerdict, block_verdicts
from analysis.verdict.mechanism import Mechanism, mechanism
from analysis.verdict.robustness import best_levels, own_best, ranges
from analysis.verdict.verdicts import without_nan

RATE_BLOCKS = {"rates": ("rates", "rates_placebo"), "rates_4_updates": ("rates_4_updates",)}  # by panel
ACTED = {  # the share of tokens that says how often a setting made a difference
    "fipo_decay_rate": ("moved_share",),
    "fipo_clip_range": ("low_share", "high_share"),
    "fipo_safety_threshold": ("safety_share",),
}


@dataclass(frozen=True)
class BlockFindings:
    """The answers of a study: claims, controls, mechanism, variance, and the tables of rates and grids.

    rates: a row per block and arm: block, arm, n, own_best, low, high, best (the commonest own best rate), range,
    range_low, range_high (doublings).
    """

    found: BlockStudy
    verdicts: list[BlockVerdict]
    controls: list[ControlRow]
    stress: Mechanism | None
    blame: Mechanism | None
    variance: Variance | None
    rates: pd.DataFrame

    def verdict(self, claim: str) -> BlockVerdict | None:
        """The verdict on a claim by its id."""
        return next((row for row in self.verdicts if row.claim.id == claim), None)

    def as_json(self) -> dict[str, Any]:
        """The same for a machine; not-a-numbers become null."""
        claims = [
            {
                "key": row.key,
                **asdict(row.claim),
                **asdict(row.evidence),
                "verdict": row.word,
                "over_warm_starts": asdict(row.over_starts),
                "p_corrected": row.p_corrected,
                "detectable": row.detectable,
                "differences": {str(seed): float(value) for seed, value in row.differences.items()},
                "collapsed": list(row.collapsed),
            }
            for row in self.verdicts
        ]
        shares = {item.block: {arm: asdict(one) for arm, one in item.shares.items()} for item in self.mechanisms}
        parts = self.variance.as_json() if self.variance else None
        controls = [asdict(row) for row in self.controls]
        return dict(without_nan({"claims": claims, "controls": controls, "shares": shares, "variance": parts}))

    @property
    def mechanisms(self) -> list[Mechanism]:
        """Those that there are."""
        return [item for item in (self.stress, self.blame) if item is not None]


def block_findings(found: BlockStudy) -> BlockFindings:
    """Compute everything."""
    controls = block_controls(found)
    return BlockFindings(
        found=found,
        verdicts=block_verdicts(found, controls[0].passed),
        controls=controls,
        stress=mechanism(found, "stress", "dapo", "fipo_wide", "final_accuracy") if "stress" in found.blocks else None,
        blame=mechanism(found, "controls", "dapo", "blame", "auc") if "controls" in found.blocks else None,
        variance=variance(found, "preset", "fipo", "dapo") if "preset" in found.blocks else None,
        rates=pd.DataFrame([_rates(found, block, arm) for block, arm in rate_arms(found)]),
    )


def rate_arms(found: BlockStudy) -> list[tuple[str, str]]:
    """The blocks over learning rates with their arms."""
    names = [name for panel in RATE_BLOCKS.values() for name in panel if name in found.blocks]
    return [(name, arm) for name in names for arm in found.blocks[name].arms]


def rate_panels(found: BlockStudy) -> dict[str, pd.DataFrame]:
    """By how often a rollout is used, the rows of all blocks over learning rates with that: arm, level, seed, score."""
    panels = {}
    for name, blocks in RATE_BLOCKS.items():
        rows = pd.concat([found.of(block) for block in blocks])
        if len(rows):
            panels[setting_words(found, name)] = rows[["arm", "level", "seed", "final_accuracy"]]
    return panels


def setting_words(found: BlockStudy, block: str) -> str:
    """`16 updates per rollout`, and where the block varies no rate that too, from its runs' own settings."""
    settings = found.study.configs[str(found.of(block)["run"].iloc[0])].get("optimizer", {})
    updates = int(settings.get("minibatches", 1)) * int(settings.get("epochs", 1))
    rate = "" if found.blocks[block].varied == "lr" else f"{scientific(settings['lr'])}, " if "lr" in settings else ""
    return f"{rate}{updates} updates per rollout"


def grid_blocks(found: BlockStudy) -> list[Block]:
    """The blocks that vary a setting of the weights."""
    return [block for block in found.blocks.values() if block.varied in ACTED]


def grid_table(found: BlockStudy, block: Block) -> pd.DataFrame:
    """A row per level and seed of a grid's arm: level, seed, final_accuracy, acted."""
    rows = found.of(block.name, block.arms[0])
    acted = rows[list(ACTED[str(block.varied)])].sum(axis=1)
    return rows.assign(level=rows["level"].astype(float), acted=acted)[["level", "seed", "final_accuracy", "acted"]]


def _rates(found: BlockStudy, block: str, arm: str) -> dict[str, Any]:
    table = found.by_level(block, arm, "final_accuracy")
    best, held = t_interval(own_best(table).to_numpy(float)), t_interval(ranges(table).to_numpy(float))
    chosen = list(best_levels(table).values())
    return {
        "block": block,
        "arm": arm,
        "n": len(table),
        "best": max(set(chosen), key=chosen.count) if chosen else None,
        "own_best": best.mean,
        "low": best.low,
        "high": best.high,
        "range": held.mean,
        "range_low": held.low,
        "range_high": held.high,
    }
