"""A figure as the report shows it, with all that is said about it."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from analysis.figures.canvas import Drawing
from analysis.formatting import counted
from analysis.records.study import Study
from analysis.verdict.findings import Findings


@dataclass(frozen=True)
class Figure:
    """A drawing and its words.

    caption: at most two lines; `details` holds the rest, folded. tables: the data it was drawn from, written as
    NAME_<part>.csv. alt: the figure in words, for whoever cannot see it.
    """

    name: str
    title: str
    caption: str
    drawing: Drawing
    tables: dict[str, pd.DataFrame]
    alt: str
    details: str = ""


def seed_words(study: Study) -> str:
    """How many seeds or forks count, and which arms have another number: `5 seeds per arm (random reward 3)`."""
    counting = study.runs[study.runs["run"].isin(study.folders)]
    counts = {arm.name: int((counting["arm"] == arm.name).sum()) for arm in study.arms_with_runs}
    usual = max(counts.values(), key=list(counts.values()).count)
    others = ", ".join(f"{study.label(arm)} {n}" for arm, n in counts.items() if n != usual)
    return f"{counted(usual, study.units[0])} per arm{f' ({others})' if others else ''}"


def length_limit(study: Study) -> float | None:
    """--max_response_tokens; None where the runs have several or do not say."""
    limits = {config.get("rollout", {}).get("max_response_tokens") for config in study.configs.values()}
    return limits.pop() if len(limits) == 1 else None


def compared_blocks(found: Findings) -> Iterator[tuple[str, Study]]:
    """The blocks that vary nothing and have several arms with runs: their figures' names' ending, and each alone."""
    names = [block.name for block in found.study.blocks.values() if not block.varied]
    for name in names:
        study = found.study.block(name)
        if len(study.arms_with_runs) > 1 or len(names) == 1:
            yield "" if len(names) == 1 else f"_{name}", study


def of_block(title: str, ending: str) -> str:
    """The title of a figure whose name has this ending, with its block where there are several."""
    return f"{title}: {ending.strip('_').replace('_', ' ')}" if ending else title


def baseline_of(study: Study) -> str:
    """What the arms of a study of one block are compared with."""
    (block,) = study.blocks.values()
    return block.baseline
