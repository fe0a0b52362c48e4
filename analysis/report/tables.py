"""The tables of a study's report: findings in, cells of text out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import isnan
from typing import Any

import pandas as pd

from analysis.figures.blocks import METRIC, level_word, levels
from analysis.figures.claims import compared_words
from analysis.formatting import bracket, p_value, plain, signed, with_interval
from analysis.records.claims import Claim
from analysis.records.outcomes import OUTCOMES, scores_of, summary
from analysis.records.search import word
from analysis.records.study import Block, Study
from analysis.statistics.intervals import Interval, t_interval
from analysis.verdict.credit import CreditFindings
from analysis.verdict.findings import Findings
from analysis.verdict.gains import Gains
from analysis.verdict.levels import by_level, own_best
from analysis.verdict.verdicts import Verdict

HEADINGS = {
    "start_accuracy": "Accuracy before training",
    "auc": "Speed of learning (AUC)",
    "final_accuracy": "Final accuracy",
    "accuracy_at_equal_tokens": "Accuracy at equal tokens",
    "final_response_tokens": "Response tokens",
    "generated_tokens": "Generated tokens, thousands",
    "seconds": "Seconds",
}

COURSE_HEADINGS = {
    "gradient_norm": "Gradient norm",
    "clipped_share": "Updates clipped",
    "step_norm": "Step of Adam",
    "kl_to_old": "KL to the old policy",
    "influence_weight": "Mean weight",
    "moved_share": "Weights off 1",
}


@dataclass(frozen=True)
class Table:
    """Cells of text; the first `words` columns hold words, the others numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1

    @property
    def html(self) -> str:
        """A table that scrolls where the page is narrower; nothing without rows."""
        if not self.rows:
            return ""
        kinds = ["" if place < self.words else ' class="number"' for place in range(len(self.head))]
        heads = "".join(f'<th scope="col"{k}>{escape(title)}</th>' for k, title in zip(kinds, self.head, strict=True))
        body = "".join(
            "<tr>" + "".join(f"<td{k}>{escape(cell)}</td>" for k, cell in zip(kinds, row, strict=True)) + "</tr>\n"
            for row in self.rows
        )
        label = escape(f"Table: {', '.join(self.head[:3])}")
        return (
            f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table>'
            f"<thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table></div>"
        )


def verdict_table(found: Findings) -> Table:
    """A row per claim, then those that cannot be tested, then a row per control."""
    rows = [_verdict_row(found.study, item) for item in found.verdicts]
    rows += [["", text, "not tested", why, "", "", ""] for text, why in found.not_tested]
    rows += [[item.key, item.sentence, item.word, "", "", "", ""] for item in found.controls]
    seed, start = (word.capitalize() for word in found.study.units)
    head = ["Row", "Claim", "Verdict", "Effect [interval that decides]", "Holds if", f"{start}s as units", f"{seed}s"]
    return Table(head, rows, words=6)


def _verdict_row(study: Study, item: Verdict) -> list[str]:
    digits, starts = OUTCOMES[item.claim.metric].digits, item.over_starts
    return [
        item.key,
        item.claim.text + ("" if item.is_primary else " (exploratory)"),
        item.word,
        item.effect if item.identical else f"{item.effect} {item.unit}",
        margin_words(item.claim),
        "not known"
        if study.is_imported
        else f"one {study.units[1]}"
        if study.warm_starts < 2
        else ""
        if starts is None
        else _numbers(starts, digits),
        str(item.evidence.seeds),
    ]


def evidence_table(found: Findings) -> Table:
    """A row per claim: how it was decided, and how far to trust its effect."""
    rows = []
    for item in found.verdicts:
        shown, digits = item.evidence, OUTCOMES[item.claim.metric].digits
        rows.append(
            [
                item.key,
                compared_words(found.study, item),
                shown.method,
                f"{100 * shown.level:.4g} %",
                p_value(shown.p),
                p_value(item.p_corrected),
                "n/a" if shown.welch is None else f"{_numbers(shown.welch, digits)}, p {p_value(shown.welch.p)}",
                plain(shown.smallest_detectable, digits),
                "n/a" if shown.seeds_needed is None else f"{shown.seeds_needed:,}",
                str(len(item.collapsed)),
            ]
        )
    head = ["Row", "Arms", "Test", "Level", "p of the margin", "Corrected p", "Welch's difference", "Detectable"]
    return Table([*head, "Seeds for the margin", "Collapsed runs"], rows, words=3)


def margin_words(claim: Claim) -> str:
    """What the effect must be for the claim to hold."""
    if claim.kind == "equivalent":
        return f"within \N{PLUS-MINUS SIGN}{claim.margin:g}"
    return f"above {claim.margin:g}" if claim.direction == "higher" else f"below {-claim.margin:g}"


def outcome_table(found: Findings, block: str) -> Table:
    """A row per arm of a block that varies nothing: seeds, and mean with t interval of each outcome."""
    rows = scores_of(found.scores, block)
    names = [name for name in HEADINGS if not found.study.is_imported or rows[name].notna().any()]
    by_outcome, counts = {name: summary(rows, name) for name in names}, rows.groupby("arm", sort=False).size()
    cells = [
        [found.study.label(str(arm)), str(n), *(_outcome(by_outcome[name][str(arm)], name) for name in names)]
        for arm, n in counts.items()
    ]
    return Table(["Arm", "Seeds", *(HEADINGS[name] for name in names)], cells)


def level_table(found: Findings, block: Block) -> Table:
    """A row per arm of a block that varies settings: its accuracy at each level, and at its own best one."""
    scores = scores_of(found.scores, block.name)
    table = levels(scores, block)
    rows = []
    for arm, of_arm in table.groupby("arm", sort=False):
        best = own_best(by_level(scores, block, str(arm), METRIC)).to_numpy(float)
        at = {row["place"]: with_interval(_interval(row)) for _, row in of_arm.iterrows()}
        cells = [at.get(place, "n/a") for place in range(len(block.levels))]
        best_cell = with_interval(t_interval(best))
        rows.append([found.study.label(str(arm)), *cells, best_cell, str(of_arm["collapsed"].sum())])
    return Table(["Arm", *map(level_word, block.levels), "own best", "Collapsed runs"], rows)


def gain_table(study: Study, item: Gains) -> Table:
    """A row per arm: its gain, its share of that of the arm that the placebos stand for, and how hard it trained."""
    gains = {
        row["arm"]: f"{signed(row['mean'])} {bracket(row['low'], row['high'])}" for _, row in item.means.iterrows()
    }
    shares = {arm: share.words for arm, share in item.shares.items()} | {item.whole: "1"}
    known = [name for name in COURSE_HEADINGS if name in item.course and item.course[name].notna().any()]
    rows = [
        [study.label(str(arm)), gains.get(arm, ""), shares.get(str(arm), ""), *(plain(row[name]) for name in known)]
        for arm, row in item.course.iterrows()
    ]
    head = ["Arm", f"Gain over {study.label(item.baseline)}", f"Share of the gain of {study.label(item.whole)}"]
    return Table([*head, *(COURSE_HEADINGS[name] for name in known)], rows)


def block_table(found: Findings) -> Table:
    """What was run, a row per block."""
    rows = [
        [
            block.name,
            block.question,
            ", ".join(found.study.label(arm) for arm in block.arms),
            ", ".join(f"{name} {value}" for name, value in block.settings.items()),
            f"{' and '.join(block.varied)}: {', '.join(map(level_word, block.levels))}" if block.varied else "",
            str(block.seeds),
            str(len(scores_of(found.scores, block.name))),
        ]
        for block in found.study.blocks.values()
    ]
    return Table(["Block", "Question", "Arms", "Settings", "Varied", "Seeds", "Scores"], rows, words=5)


def difference_table(study: Study) -> Table:
    """A row per setting that differs between the arms of a comparison, and whether the family allows it."""
    arms = [arm.name for arm in study.arms]
    rows = [
        [str(item["field"]), "yes" if item.get("allowed", True) else "CONFOUND"]
        + [word(item["values"].get(arm, "not compared")) for arm in arms]
        for item in study.description.get("differences", [])
    ]
    return Table(["Setting", "Allowed", *(study.label(arm) for arm in arms)], rows, words=2 + len(arms))


def _outcome(interval: Interval, name: str) -> str:
    outcome = OUTCOMES[name]
    mean, low, high = (value * outcome.scale for value in (interval.mean, interval.low, interval.high))
    return with_interval(Interval(mean, low, high, interval.n), outcome.digits)


def _interval(row: Mapping[str, float] | pd.Series) -> Interval:
    return Interval(row["mean"], row["low"], row["high"], int(row["n"]))


def _numbers(found: object, digits: int) -> str:
    difference, low, high = (float(getattr(found, name)) for name in ("difference", "low", "high"))
    return signed(difference, digits) + ("" if isnan(low) else f" {bracket(low, high, digits)}")


def credit_table(credit: CreditFindings) -> Table:
    """A row per candidate: how near to the true gradient it points, and what it changes."""
    known = credit.microscope.candidates
    changed = {name: known[one.like].label if one.like in known else one.like for name, one in known.items()}

    def beside(row: Mapping[Any, Any]) -> str:
        return f"{signed(row['minus_like'])} {bracket(row['like_low'], row['like_high'])}"

    rows = [
        [
            row["label"],
            f"{row['kind']}, of {changed[row['candidate']]}" if changed[row["candidate"]] else row["kind"],
            plain(row["cosine"]),
            signed(row["minus_dapo"]),
            bracket(row["low"], row["high"]),
            p_value(row["p_holm"]),
            beside(row) if known[row["candidate"]].like in known else "",
        ]
        for row in credit.directions.to_dict("records")
    ]
    return Table(
        ["Candidate", "Kind", "Cosine", "Minus DAPO", "95 %", "p (Holm)", "Minus what it changes"], rows, words=2
    )


def agreement_table(credit: CreditFindings) -> Table:
    """A row per quantity and sign: whether it lies where the credit lies."""
    rows = [
        [row["label"], row["of"], signed(row["correlation"]), bracket(row["low"], row["high"]), str(row["responses"])]
        for row in credit.agreement.to_dict("records")
    ]
    return Table(["Quantity", "Within", "Rank correlation", "95 %", "Responses"], rows, words=2)
