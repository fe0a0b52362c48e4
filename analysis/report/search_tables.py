"""The tables of a search's report as HTML: findings in, escaped cells out."""

from collections.abc import Iterator
from math import isnan

import pandas as pd

from analysis.figures.search_views import ENDED, word
from analysis.figures.style import arm_label
from analysis.formatting import bracket, counted, plain, signed, with_interval
from analysis.records.search import CONSTRAINT, PARAMETER, Search
from analysis.report.claim_tables import MARKS, UNITS, margin_words
from analysis.report.search_winners import Winner
from analysis.report.tables import table
from analysis.statistics.intervals import Interval
from analysis.verdict.inert import Acted
from analysis.verdict.search_best import Best, parameters_of
from analysis.verdict.search_claims import GridClaim
from analysis.verdict.search_findings import SearchFindings

RANK = ("feasible", "over a limit", "pruned", "infeasible", "failed", "running", "waiting")


def grid_claims_table(claims: list[GridClaim]) -> str:
    """A row per claim about a grid: its word, and the change along the trend with the interval that decides."""
    head = ["Claim", "Verdict", "Change along the trend [interval that decides]", "Level", "Holds if", "n"]
    head += ["Smallest that such seeds show in 80 %", "Seeds for the margin"]
    rows = [
        [
            item.claim.text + ("" if item.claim.role == "primary" else " (exploratory)"),
            MARKS[item.evidence.decision] + (f", {item.reason}" if item.reason else ""),
            f"{signed(item.evidence.effect)} {bracket(item.evidence.low, item.evidence.high)} "
            f"{UNITS[item.claim.metric]}, {item.claim.parameter} {item.claim.start:g} to {item.claim.end:g}",
            f"{100 * item.evidence.level:.4g} %",
            margin_words(item.claim),
            str(item.evidence.n[0]),
            plain(item.evidence.smallest_detectable),
            item.seeds_needed,
        ]
        for item in claims
    ]
    return table(head, rows, texts=5)


def best_table(bests: list[Best], winners: list[Winner]) -> str:
    """A row per loss: its best feasible trial, and beside it what the same settings reached on fresh seeds."""
    fresh = {winner.loss: winner for winner in winners}
    head = ["Loss", "Best trial", "Parameters", "Trials ended (feasible)", "Value in tuning", "By luck alone"]
    rows = [
        [
            arm_label(best.loss),
            "none feasible" if best.trial is None else str(best.trial),
            ", ".join(f"{name} {value}" for name, value in best.parameters.items()),
            f"{best.ended} ({best.feasible})",
            with_interval(Interval(best.value, best.low, best.high, best.seeds)),
            "n/a" if isnan(best.luck) else f"+{plain(best.luck)}",
            *(_fresh(fresh[best.loss]) if best.loss in fresh else ["not run yet"] if fresh else []),
        ]
        for best in bests
    ]
    return table([*head, *(["Final accuracy on fresh seeds"] if fresh else [])], rows, texts=3)


def without_value_table(search: Search) -> str:
    """A row per ended trial that has no value or violates a constraint, with the reason."""
    rows = search.trials[search.trials["outcome"].isin(["over a limit", "infeasible", "failed", "pruned"])]
    cells = [
        [arm_label(str(row["loss"])), str(row["trial"]), str(row["outcome"]), _reason(row), _parameters(search, row)]
        for _, row in rows.iterrows()
    ]
    if not cells:
        return "<p>None: every trial that ended has a value within all limits.</p>"
    return table(["Loss", "Trial", "Ended", "Reason", "Parameters"], cells, texts=5)


def trials_table(search: Search, loss: str) -> str:
    """A row per trial of a loss, best first, those without a value after them."""
    names = list(search.searched(loss))
    head = ["Trial", "State", *names, "Value", "Seeds' values", "Response tokens", "Cut off"]
    head += ["Generated tokens, thousands", "Seconds", "Restarts"]
    rows = search.of(loss).assign(rank=lambda table: table["outcome"].map({name: i for i, name in enumerate(RANK)}))
    rows = rows.sort_values(["rank", "value", "trial"], ascending=[True, False, True])
    cells = [
        [
            str(row["trial"]),
            str(row["outcome"]),
            *("n/a" if pd.isna(row[PARAMETER + name]) else word(row[PARAMETER + name]) for name in names),
            plain(row["value"]),
            " ".join(plain(value) for value in row["values"]) or "n/a",
            plain(row["response_tokens"], 1),
            "n/a" if isnan(row["truncated_share"]) else f"{row['truncated_share']:.1%}",
            plain(row["generated_tokens"] / 1000, 0),
            plain(row["seconds"], 0),
            plain(row["attempts"], 0),
        ]
        for _, row in rows.iterrows()
    ]
    return table(head, cells, texts=2)


def acted_table(items: list[Acted]) -> str:
    """A row per loss and searched parameter: on which share of trained tokens it acted, lowest and highest trial."""
    rows = [
        [
            item.parameter,
            arm_label(item.loss),
            item.word,
            "n/a" if isnan(item.low) else f"{100 * item.low:.3g}% to {100 * item.high:.3g}%",
            str(item.trials),
        ]
        for item in items
    ]
    return table(["Parameter", "Loss", "In this range", "Share of trained tokens", "Trials"], rows, texts=3)


def settings_table(found: SearchFindings) -> str:
    """What the search was asked to do, and the tokens that it spent on each loss."""
    return table(["Field", "Value"], [list(row) for row in _settings(found.search)], texts=2)


def _settings(search: Search) -> Iterator[tuple[str, str]]:
    given = search.description
    for loss in search.losses:
        for name, space in given["spaces"].get(loss, {}).items():
            yield f"{arm_label(loss)}: {name}", _space(space)
    for name in ("sampler", "pruner"):
        yield name, _words(given.get(name))
    for name, limit in (given.get("limits") or {}).items():
        yield f"limit: {name}", "none" if limit is None else _words(limit)
    for name in ("value", "preset", "space", "settings", "seeds", "report_seeds", "trials", "token_budget"):
        if name in given:
            yield name.replace("_", " "), _words(given[name])
    for loss in search.losses:
        spent = search.of(loss).loc[search.of(loss)["outcome"].isin(ENDED), "generated_tokens"]
        unknown = (
            f", not counting {counted(int(spent.isna().sum()), 'ended trial')} that recorded none"
            if spent.isna().any()
            else ""
        )
        yield f"tokens generated for {arm_label(loss)}", f"{spent.sum():,.0f}{unknown}"


def _space(space: dict[str, object]) -> str:
    kind = space.get("kind")
    if kind == "log":
        return f"{word(space['low'])} to {word(space['high'])}, logarithmic"
    if kind == "step":
        return f"{word(space['low'])} to {word(space['high'])} in steps of {word(space['step'])}"
    return f"{kind}: {_words(space.get('values', space.get('value')))}"


def _words(value: object) -> str:
    if isinstance(value, dict):
        parts = [
            f"{key} ({_words(item)})" if isinstance(item, dict) else f"{key} {_words(item)}"
            for key, item in value.items()
        ]
        return ", ".join(part for part in parts if not part.endswith("()")) or "none"
    if isinstance(value, list):
        return ", ".join(_words(item) for item in value) or "none"
    return value if isinstance(value, str) else f"{value:,}" if type(value) is int else word(value)


def _fresh(winner: Winner) -> list[str]:
    return [f"{with_interval(Interval(winner.mean, winner.low, winner.high, winner.n))}, n = {winner.n}"]


def _reason(row: pd.Series) -> str:
    if row["outcome"] != "over a limit":
        return "not said" if pd.isna(row["reason"]) else str(row["reason"])
    beyond = {name.removeprefix(CONSTRAINT): row[name] for name in row.index if name.startswith(CONSTRAINT)}
    words = [f"{name} {plain(value)} beyond its limit" for name, value in beyond.items() if value > 0]
    return ", ".join(words) or "not said"


def _parameters(search: Search, row: pd.Series) -> str:
    return ", ".join(f"{name} {value}" for name, value in parameters_of(search, row).items())
