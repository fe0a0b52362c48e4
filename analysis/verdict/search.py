"""What a search found: the best trial of each loss, and its winners' study."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import nan
from typing import Any

import pandas as pd

from analysis.errors import RecordsError
from analysis.formatting import counted, listed, with_interval
from analysis.records.outcomes import summary
from analysis.records.search import ENDED, PARAMETER, Search, word
from analysis.records.study import read
from analysis.statistics.intervals import Interval, t_interval
from analysis.verdict.findings import SCHEMA_VERSION, Findings, findings, without_nan
from analysis.verdict.sentences import headline

EXPLORATORY = (
    "A search is exploratory: the best of n trials was chosen for its value, so that value is biased upwards, and its "
    "interval does not correct for the choice. It does not show that one loss is better. The number to quote is the "
    "final accuracy of the best settings on fresh seeds."
)
NOT_RUN = "The best settings have not been run on fresh seeds yet: until then there is no number to quote."


@dataclass(frozen=True)
class Best:
    """The best feasible trial of a loss; `trial` is None where no trial is feasible.

    preset: where in the folder the complete settings are; None where `sweeps` has not written them.
    """

    loss: str
    trial: int | None
    value: float
    low: float
    high: float
    seeds: int
    parameters: dict[str, str]
    preset: str | None
    ended: int


@dataclass(frozen=True)
class SearchFindings:
    """What was computed from a search once. winners: of the study of its best settings on fresh seeds.

    note: why there are none, in words; empty where there are.
    """

    search: Search
    bests: list[Best]
    winners: Findings | None
    note: str

    def as_json(self) -> dict[str, Any]:
        """The same for a machine; not-a-numbers become null, as JSON has none."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "name": self.search.name,
            "trials": {loss: dict(Counter(sorted(self.search.of(loss)["outcome"]))) for loss in self.search.losses},
            "best": [asdict(best) for best in self.bests],
        }
        return dict(without_nan(content))


def search_findings(search: Search, axis: str = "steps") -> SearchFindings:
    """Everything that is said of a search."""
    bests, folder = [best_of(search, loss) for loss in search.losses], search.folder / "winners"
    if not (folder / "study.json").is_file():
        return SearchFindings(search, bests, None, NOT_RUN)
    try:
        return SearchFindings(search, bests, findings(read([folder]), axis), "")
    except RecordsError as error:
        return SearchFindings(search, bests, None, f"The runs on fresh seeds cannot be reported: {error}.")


def best_of(search: Search, loss: str) -> Best:
    """The feasible trial of the highest value; of equals the first."""
    trials = search.of(loss)
    ended, feasible = int(trials["outcome"].isin(ENDED).sum()), trials[trials["outcome"] == "feasible"]
    if feasible.empty:
        return Best(loss, None, nan, nan, nan, 0, {}, None, ended)
    row = feasible.iloc[int(feasible["value"].argmax())]
    own, preset = t_interval(row["values"]), f"best/{loss}.json"
    given = {name: row[PARAMETER + name] for name in search.searched(loss)}
    words = {name: word(value) for name, value in given.items() if not pd.isna(value)}
    trial, value = int(row["trial"]), float(row["value"])
    written = preset if (search.folder / preset).is_file() else None
    return Best(loss, trial, value, own.low, own.high, own.n, words, written, ended)


def found_sentences(found: SearchFindings) -> list[str]:
    """The winners' verdict, or why there is none; what each loss found."""
    first = found.note if found.winners is None else f"On fresh seeds: {headline(found.winners)}"
    return [first, *(best_sentence(found, best) for best in found.bests)]


def best_sentence(found: SearchFindings, best: Best) -> str:
    """A loss's best trial, and what its settings reached on fresh seeds."""
    name = found.search.label(best.loss)
    if best.trial is None:
        return f"{name}: none of {counted(best.ended, 'ended trial')} has a value within the limits."
    value = with_interval(Interval(best.value, best.low, best.high, best.seeds))
    fresh = fresh_accuracy(found).get(best.loss)
    said = f" On {counted(fresh.n, 'fresh seed')} its settings reach {with_interval(fresh)}." if fresh else ""
    return (
        f"{name}: the best of {counted(best.ended, 'trial')} is trial {best.trial}, {value} over "
        f"{counted(best.seeds, 'tuning seed')}, at {settings_of(best)}.{said}"
    )


def settings_of(best: Best) -> str:
    """The values of what was searched."""
    return ", ".join(f"{parameter} {value}" for parameter, value in best.parameters.items())


def fresh_accuracy(found: SearchFindings) -> Mapping[str, Interval]:
    """The final accuracy of each winner and control on fresh seeds, by name; empty where they were not run."""
    return {} if found.winners is None else summary(found.winners.scores, "final_accuracy")


def searched_sentence(search: Search) -> str:
    """What was searched: losses, parameters, sampler, trials and seeds; losses that were searched alike together."""
    alike: dict[tuple[str, int], list[str]] = {}
    for loss in search.losses:
        key = listed(list(search.searched(loss))) or "nothing", len(search.of(loss))
        alike.setdefault(key, []).append(search.label(loss))
    words = [f"{names} of {listed(losses)}, {counted(n, 'trial')} each" for (names, n), losses in alike.items()]
    seeds = counted(len(search.description["seeds"]), "tuning seed")
    sampler = search.description["sampler"].get("name", "not named")
    return f"Searched: {'; '.join(words)}, by {sampler}, on {seeds}."


def unfinished_note(search: Search) -> str:
    """That the search still goes on, or an empty string; trials of the plan that were not begun are open too."""
    words = []
    for loss in search.losses:
        going = search.of(loss)["outcome"].isin(["running", "waiting"])
        if n := max(int(going.sum()), search.description.get("trials", 0) - int((~going).sum())):
            words.append(f"{counted(n, 'trial')} of {search.label(loss)}")
    return f"Not finished: {listed(words)} still open. What follows will change." if words else ""
