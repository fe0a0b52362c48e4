"""Where the numbers come from: run ids, commits and machines, and what of it is not as it should be."""

import json
from dataclasses import dataclass

import pandas as pd

from analysis.records.run_files import ENVIRONMENT_FIELDS
from analysis.records.study import Study

UNKNOWN = "not recorded"
SUMMARISED = [field for field in ENVIRONMENT_FIELDS if field not in ("commit", "dirty_diff_sha256", "started_at")]


def commits(environments: pd.DataFrame) -> str:
    """The commit of all runs, or plainly that there are several or that the tree had changes."""
    counts = environments["commit"].fillna("unknown").value_counts(sort=False)
    dirty = int(environments["dirty_diff_sha256"].notna().sum())
    each = ", ".join(f"{name} ({n} runs)" for name, n in counts.items())
    words = f"commit {counts.index[0]}" if len(counts) == 1 else f"{len(counts)} different commits: {each}"
    return words + (f"; {dirty} of {len(environments)} runs from a tree with uncommitted changes" if dirty else "")


@dataclass(frozen=True)
class Source:
    """Where a figure comes from: the runs, their commit, the claims file, and the folders and flags as they were given.

    groups: names that stand for several figures whose names begin so; those are drawn by the group's.
    """

    runs: list[str]
    commits: str
    claims: str
    given: str
    groups: tuple[str, ...]

    def group(self, name: str) -> str:
        """The name that --only takes for a figure of this name."""
        return next((group for group in self.groups if name.startswith(group)), name)

    def command(self, name: str) -> str:
        """What draws the figure of this name again."""
        return f"python -m analysis figures {self.given} --only {self.group(name)}"

    def about(self, name: str) -> str:
        """All of it in one line, as the figure's file carries it."""
        runs = f"{len(self.runs)} runs: {', '.join(self.runs)}"
        return f"{self.commits}; {self.claims}; drawn by: {self.command(name)}; {runs}"


def environment_rows(study: Study) -> list[tuple[str, str]]:
    """Each field of the environment with its value, or how many runs have which; a GPU if one was used."""
    rows = []
    for name in SUMMARISED:
        counts = study.environments[name].map(_text).value_counts(sort=False)
        words = [f"{text} ({n} runs)" if len(counts) > 1 else str(text) for text, n in counts.items()]
        if name != "gpu" or words != [UNKNOWN]:
            rows.append((name, "; ".join(words)))
    return rows


def not_used(study: Study) -> pd.DataFrame:
    """The runs that did not enter: run, state, steps_done, reason."""
    return study.runs.loc[~study.runs["run"].isin(study.folders), ["run", "state", "steps_done", "reason"]]


def confounds(study: Study) -> list[str]:
    """What differs between the arms and is not the loss's, as the study itself says; blocks differ on purpose."""
    if not study.is_comparison:
        return []
    named = [item if isinstance(item, str) else json.dumps(item) for item in study.description.get("confounds", [])]
    fields = [item["field"] for item in study.description.get("differences", []) if not item.get("allowed", True)]
    return [*named, *(field for field in fields if not any(field in words for words in named))]


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in sorted(value.items()))
    return UNKNOWN if value is None or value != value else str(value)
