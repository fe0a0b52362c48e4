"""The page of a study of several blocks: abstract and verdict table first, then figures, tables and method."""

from collections.abc import Sequence
from html import escape

import numpy as np

from analysis.figures.style import arm_label
from analysis.formatting import bracket, counted, p_value, plain, signed, with_interval
from analysis.records.provenance import Source, commits
from analysis.report.claim_tables import margin_words
from analysis.report.page import Section, Shown, box, bullets, figure, page, paragraph
from analysis.report.tables import record_sections, table
from analysis.statistics.intervals import paired_t, t_interval
from analysis.verdict.block_findings import BlockFindings, rate_arms
from analysis.verdict.block_verdicts import UNITS, BlockVerdict
from analysis.verdict.mechanism import Mechanism
from analysis.verdict.notes import notes_on_records

COURSE_NAMES = {
    "gradient_norm": "Gradient norm",
    "clipped_share": "Updates clipped",
    "step_norm": "Step size of Adam",
    "kl_to_old": "KL to the old policy",
    "influence_weight": "Mean weight",
    "moved_share": "Weights off 1",
}
METHOD = (
    "Unit: the training seed. Differences are taken seed by seed, since a seed's runs share warm start, prompts and "
    "noise in every arm; the t interval over them decides, at level 1 - .05/m for m primary claims, or where a "
    "scored run collapsed (ended no better than it began) the exact signed-rank interval of their pseudo-median.",
    "Ranks decide the claims alone, and not those about ranges of rates, where a collapse is part of the score. "
    "Shares, curves, tables and the warm start as the unit keep the t interval, which means little where runs "
    "collapsed: the tables say how many did. Exploratory claims are decided at 5 % each, with Benjamini and "
    "Hochberg's p beside.",
    "The interval is given these warm starts: it holds what seeds do, and says nothing of other warm starts. Beside it "
    "stands the interval in which each warm start's mean is one unit; with three of them it is wide.",
    "Own best rate: for each seed the rate that is best in the mean of the other seeds; the seed is scored there.",
    "Range: doublings of the rate over which a seed's final accuracy stays within 0.02 of its best, straight lines "
    "between the rates of the grid, nothing beyond its ends.",
    "Share of a gain: ratio of two paired mean gains, with the interval of Fieller (1954).",
    "Final accuracy: mean of the last three evaluations, at the same number of steps for all; AUC: mean training "
    "accuracy.",
)

COURSE_NOTE = (
    "Means over all steps and seeds. A placebo that damps the gradient or the step may gain by that alone: read a gain "
    "beside the norm of the gradient before clipping, the share of updates that were clipped, the norm of Adam's "
    "change to the weights, and how far an update leaves the policy that sampled."
)


def block_page(answer: BlockFindings, sentences: Sequence[str], shown: Sequence[Shown], source: Source) -> str:
    """The whole page."""
    figures = {item.name: item for item in shown}
    study = answer.found.study
    sections = [
        *_figures(answer, figures, source),
        Section("evidence", "Evidence", "All evidence", _evidence(answer)),
        Section("blocks", "Blocks", "What was run", _blocks(answer)),
        *record_sections(study),
        Section("method", "Method", "How it was computed", bullets(list(METHOD))),
    ]
    title = str(study.description["design"].get("title", study.name))
    return page(title, _subtitle(answer), _first_screen(answer, sentences, figures, source), sections)


def _subtitle(answer: BlockFindings) -> str:
    found, made = answer.found, commits(answer.found.study.environments)
    state = "complete" if found.is_complete else f"{len(found.scores)} of {found.planned} scores so far"
    design = found.study.description["design"]
    flags = "".join(f", --{name} {value}" for name, value in design.get("flags", {}).items())
    preset = found.study.description.get("preset")
    return f"Study {design.get('name')}, preset {preset}{flags}; {state}. {made[0].upper()}{made[1:]}."


def _first_screen(answer: BlockFindings, sentences: Sequence[str], figures: dict[str, Shown], source: Source) -> str:
    parts = [
        box("verdict", "<h3>Abstract</h3><ol>" + "".join(f"<li>{escape(one)}</li>" for one in sentences) + "</ol>")
    ]
    if not answer.found.is_complete:
        words = f"{len(answer.found.scores)} of {answer.found.planned} planned scores count: the same command goes on."
        parts.append(box("warning", paragraph(f"Not complete. {words} Nothing here may be quoted yet.")))
    if said := notes_on_records(answer.found.study):
        parts.append(box("warning", bullets(said)))
    if "robustness" in figures:
        parts.append(figure(figures["robustness"], source))
    return "\n".join([*parts, "<h3>Verdicts</h3>", verdict_table(answer)])


def verdict_table(answer: BlockFindings) -> str:
    """A row per claim and control: every statement of the abstract names its row."""
    rows = [
        [
            item.key,
            item.claim.text + ("" if item.is_primary else " (exploratory)"),
            item.word,
            f"{item.effect} {UNITS[item.claim.metric]}",
            margin_words(item.claim),
            f"{signed(item.over_starts.difference, item.digits)} "
            f"{bracket(item.over_starts.low, item.over_starts.high, item.digits)}",
            plain(item.detectable, item.digits),
            str(len(item.differences)),
        ]
        for item in answer.verdicts
    ]
    rows += [[row.key, row.sentence, row.word, "", "", "", "", ""] for row in answer.controls]
    for key, whole in (("M", answer.stress), ("B", answer.blame)):
        if whole is not None and whole.shares:
            words = f"Share of the gain of {arm_label(whole.whole)}: {whole.share_words}"
            rows.append([key, words, "estimate", "", "", "", "", ""])
    head = ["Row", "Claim", "Verdict", "Effect [interval that decides]", "Holds if", "Warm start as unit"]
    return table([*head, "Detectable", "Seeds"], rows, texts=5)


def _figures(answer: BlockFindings, figures: dict[str, Shown], source: Source) -> list[Section]:
    said = bullets([row.sentence for row in answer.controls])
    parts = {
        "rates": ("Rates", "At equal settings and each at its own best", rates_table(answer)),
        "mechanism": ("Mechanism", "What is left of a gain without token credit", course_table(answer.stress)),
        "controls": ("Controls", "Where a negative advantage falls", said + course_table(answer.blame)),
        "grids": ("Grids", "Decay rate, clip range, safety threshold", _trends(answer)),
        "variance": ("Variance", "Where the variance comes from", ""),
    }
    return [
        Section(name, short, title, (figure(figures[name], source) if name in figures else "") + html)
        for name, (short, title, html) in parts.items()
    ]


def rates_table(answer: BlockFindings) -> str:
    """A row per block and arm: accuracy at each rate and at its own best one, and the range of rates that it holds."""
    blocks = [block for block, _ in rate_arms(answer.found)]
    levels = sorted({level for block in blocks for level in answer.found.of(block)["level"].dropna()})
    rows = [
        [
            str(row["block"]),
            arm_label(row["arm"]),
            *(_at_rate(answer, row["block"], row["arm"], level) for level in levels),
            "n/a" if row["best"] is None else f"{row['best']:g}",
            f"{plain(row['own_best'])} [{plain(row['low'])}, {plain(row['high'])}]",
            f"{plain(row['range'], 2)} [{plain(row['range_low'], 2)}, {plain(row['range_high'], 2)}]",
            str(int(answer.found.of(row["block"], row["arm"])["collapsed"].sum())),
        ]
        for _, row in answer.rates.iterrows()
    ]
    head = ["Block", "Arm", *(f"at {level:g}" for level in levels), "Own best rate", "At its own best"]
    return table([*head, "Doublings within 0.02", "Collapsed runs"], rows, texts=2)


def _at_rate(answer: BlockFindings, block: str, arm: str, level: float) -> str:
    rows = answer.found.of(block, arm)
    return with_interval(t_interval(rows.loc[rows["level"] == level, "final_accuracy"].to_numpy(float)))


def course_table(item: Mechanism | None) -> str:
    """How hard each arm of a block trained: damping can look like credit."""
    if item is None:
        return ""
    known = [name for name in COURSE_NAMES if name in item.course and item.course[name].notna().any()]
    rows = [
        [arm_label(row["arm"]), *(plain(row[name]) for name in known), f"{row['collapsed']:.0f}"]
        for _, row in item.course.iterrows()
    ]
    return (
        table(["Arm", *(COURSE_NAMES[name] for name in known), "Collapsed runs"], rows)
        + f'<p class="soft">{escape(COURSE_NOTE)}</p>'
    )


def _trends(answer: BlockFindings) -> str:
    rows = [
        f"{item.claim.text}: {item.word}, {item.effect} [{item.key}]{_trend_p(item)}."
        for item in answer.verdicts
        if item.claim.is_trend
    ]
    return bullets(rows) + paragraph("The effect is the change along a straight line over the log of the setting.")


def _trend_p(item: BlockVerdict) -> str:
    """The test of no trend at all, beside the claim's own margin."""
    values = item.differences.to_numpy(float)
    return (
        f"; no trend at all: p {p_value(paired_t(values, np.zeros_like(values)).p)}"
        if item.evidence.has_enough_seeds
        else ""
    )


def _evidence(answer: BlockFindings) -> str:
    head = [
        "Row",
        "Arms",
        "Method",
        "Level",
        "p of the margin",
        "Corrected p",
        "Seeds for the margin",
        "Collapsed runs",
        "Source",
    ]
    return table(head, [_evidence_row(item) for item in answer.verdicts], texts=3)


def _evidence_row(item: BlockVerdict) -> list[str]:
    shown, claim = item.evidence, item.claim
    arms = claim.arm if claim.baseline is None else f"{claim.arm} - {claim.baseline}"
    needed = "n/a" if shown.seeds_needed is None else f"{shown.seeds_needed:,}"
    numbers = [
        f"{100 * shown.level:.4g} %",
        p_value(shown.p),
        p_value(item.p_corrected),
        needed,
        str(len(item.collapsed)),
    ]
    return [item.key, arms, shown.method, *numbers, claim.source]


def _blocks(answer: BlockFindings) -> str:
    rows, designed = [], answer.found.study.description["design"]["blocks"]
    for block in answer.found.blocks.values():
        settings = ", ".join(f"{name} {value}" for name, value in designed[block.name]["settings"].items())
        levels = ", ".join(f"{level:g}" if isinstance(level, float) else str(level) for level in block.levels)
        varied = f"{block.varied}: {levels}" if block.varied else ""
        arms = ", ".join(block.arms)
        rows.append(
            [
                block.name,
                block.question,
                arms,
                settings,
                varied,
                str(block.seeds),
                str(len(answer.found.of(block.name))),
            ]
        )
    note = counted(len(set(answer.found.scores["run"])), "run")
    return table(["Block", "Question", "Arms", "Settings", "Varied", "Seeds", "Scores"], rows, texts=5) + paragraph(
        f"{note}; what two blocks have in common ran once. Seed s starts from warm start s mod "
        f"{answer.found.warm_starts}."
    )
