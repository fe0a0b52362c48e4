"""What a search found, in sentences with the numbers in them; the report's first screen and the terminal show them."""

from math import isnan

from analysis.figures.search_views import open_trials
from analysis.figures.style import arm_label
from analysis.formatting import counted, listed, plain, with_interval
from analysis.records.search import Search
from analysis.report.search_winners import Winner
from analysis.statistics.intervals import Interval
from analysis.verdict.search_best import Best
from analysis.verdict.search_findings import SearchFindings

EXPLORATORY = (
    "A search explores: the best of n trials is biased upwards, since it was chosen for its value, and its interval "
    "over tuning seeds does not know of that. No loss is called better from this. The number to quote is the final "
    "accuracy of the best settings on fresh seeds."
)


def found_sentences(found: SearchFindings) -> list[str]:
    """Claims that were decided, what each loss found, every trend of a grid, and each parameter that did not act."""
    trends = [item.sentence for item in found.trends]
    inert = [item.sentence for item in found.acted if item.sentence]
    decided = [item.sentence for item in found.claims]
    return decided + [best_sentence(best) for best in found.bests] + trends + inert


def best_sentence(best: Best) -> str:
    """A loss's best trial, its value, and what luck alone would add to it."""
    name = arm_label(best.loss)
    if best.trial is None:
        return f"{name}: none of {counted(best.ended, 'ended trial')} has a value within the limits."
    value = with_interval(Interval(best.value, best.low, best.high, best.seeds))
    seeds = counted(best.seeds, "tuning seed")
    at = ", ".join(f"{parameter} {value}" for parameter, value in best.parameters.items())
    luck = "" if isnan(best.luck) else _luck(best)
    found = f"the best of {counted(best.ended, 'trial')} is trial {best.trial}, {value} over {seeds}, at {at}."
    return f"{name}: {found}{luck}"


def _luck(best: Best) -> str:
    return (
        f" Were all {best.feasible} feasible trials equally good, seed noise alone would lift the best by "
        f"{plain(best.luck)}."
    )


def winner_sentence(winner: Winner) -> str:
    """A loss's best settings on fresh seeds, beside the value that chose them."""
    value = with_interval(Interval(winner.mean, winner.low, winner.high, winner.n))
    return (
        f"{arm_label(winner.loss)}'s best settings on {counted(winner.n, 'fresh seed')}: final accuracy {value} "
        f"(in tuning {plain(winner.tuned)}, on other prompts and seeds)."
    )


def searched_sentence(search: Search) -> str:
    """What was searched: losses, parameters, sampler, trials and seeds."""
    by_loss = [f"{arm_label(loss)} over {listed(list(search.searched(loss))) or 'nothing'}" for loss in search.losses]
    counts = [f"{counted(len(search.of(loss)), 'trial')} of {arm_label(loss)}" for loss in search.losses]
    seeds = counted(len(search.description["seeds"]), "tuning seed")
    sampler = search.description["sampler"].get("name", "not named")
    return f"Searched: {'; '.join(by_loss)}. Sampler {sampler}, {listed(counts)}, each on {seeds}."


def unfinished_note(search: Search) -> str:
    """That the search still goes on, or an empty string."""
    words = [f"{counted(n, 'trial')} of {arm_label(loss)}" for loss, n in open_trials(search).items() if n]
    return f"Not finished: {listed(words)} still open. What follows will change." if words else ""
