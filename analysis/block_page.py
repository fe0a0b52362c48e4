"""The page of a study of several blocks: abstract and verdict table first, then figures, tables and method."""

from collections.abc import Sequence
from html import escape

from analysis.block_findings import BlockFindings
from analysis.block_verdicts import UNITS, BlockVerdict
from analysis.claim_tables import margin_words
from analysis.formatting import bracket, counted, p_value, plain, signed
from analysis.notes import notes_on_records
from analysis.page import Section, Shown, box, bullets, figure, page, paragraph
from analysis.provenance import Source, commits
from analysis.style import arm_label
from analysis.tables import environment_table, not_used_table, table

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
    "The interval is given these warm starts: it holds what seeds do, and says nothing of other warm starts. Beside it "
    "stands the interval in which each warm start's mean is one unit; with three of them it is wide.",
    "Own best rate: for each seed the rate that is best in the mean of the other seeds; the seed is scored there.",
    "Range: doublings of the rate over which a seed's final accuracy stays within 0.02 of its best, straight lines "
    "between the rates of the grid, nothing beyond its ends.",
    "Share of a gain: ratio of two paired mean gains, with the interval of Fieller (1954).",
    "Final accuracy: mean of the last three evaluations, at the same number of steps for all; AUC: mean training "
    "accuracy.",
)


def block_page(answer: BlockFindings, sentences: Sequence[str], shown: Sequence[Shown], source: Source) -> str:
    """The whole page."""
    figures = {item.name: item for item in shown}
    study = answer.found.study
    sections = [
        *_figures(answer, figures, source),
        Section("evidence", "Evidence", "All evidence", _evidence(answer)),
        Section("blocks", "Blocks", "What was run", _blocks(answer)),
        Section("not-used", "Runs left out", "Runs that did not enter", not_used_table(study)),
        Section(
            "environment",
            "Environment",
            "Where it ran",
            paragraph(commits(study.environments) + ".") + environment_table(study),
        ),
        Section("method", "Method", "How it was computed", bullets(list(METHOD))),
    ]
    title = str(study.description["design"].get("title", study.name))
    return page(title, _subtitle(answer), _first_screen(answer, sentences, figures, source), sections)


def _subtitle(answer: BlockFindings) -> str:
    found, made = answer.found, commits(answer.found.study.environments)
    state = "complete" if found.is_complete else f"{len(found.scores)} of {found.planned} scores so far"
    design = found.study.description["design"]
    preset = found.study.description.get("preset")
    return f"Study {design.get('name')}, preset {preset}; {state}. {made[0].upper()}{made[1:]}."


def _first_screen(answer: BlockFindings, sentences: Sequence[str], figures: dict[str, Shown], source: Source) -> str:
    parts = [box("verdict", "<h3>Abstract</h3>" + "".join(f"<p>{escape(one)}</p>" for one in sentences))]
    if not answer.found.is_complete:
        words = f"{len(answer.found.scores)} of {answer.found.planned} planned scores count: the same command goes on."
        parts.append(box("warning", paragraph(f"Not complete. {words} Nothing here may be quoted yet.")))
    elif said := notes_on_records(answer.found.study):
        parts.append(box("warning", bullets(said)))
    if "robustness" in figures:
        parts.append(figure(figures["robustness"], source))
    return "\n".join([*parts, "<h3>Verdicts</h3>", verdict_table(answer)])


def verdict_table(answer: BlockFindings) -> str:
    """A row per claim and control: every statement of the abstract names its row."""
    rows = [
        [
            item.key,
            item.claim.text,
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
    rows += [[item.key, item.sentence, item.word, "", "", "", "", ""] for item in answer.controls]
    if answer.stress and answer.stress.shares:
        words = "; ".join(f"{arm_label(a)} {s.words}" for a, s in answer.stress.shares.items() if a.startswith("wide_"))
        rows.append(["M", f"Share of the wide weights' gain: {words}", "estimate", "", "", "", "", ""])
    head = ["Row", "Claim", "Verdict", "Effect [interval that decides]", "Holds if", "Warm start as unit"]
    return table([*head, "Detectable", "Seeds"], rows, texts=5)


def _figures(answer: BlockFindings, figures: dict[str, Shown], source: Source) -> list[Section]:
    parts = {
        "rates": ("Rates", "At equal settings and each at its own best", rates_table(answer)),
        "mechanism": ("Mechanism", "What is left of a gain without token credit", course_table(answer)),
        "controls": (
            "Controls",
            "Where a negative advantage falls",
            bullets([row.sentence for row in answer.controls]),
        ),
        "grids": ("Grids", "Decay rate, clip range, safety threshold", _trends(answer)),
        "variance": ("Variance", "Where the variance comes from", ""),
    }
    return [
        Section(name, short, title, (figure(figures[name], source) if name in figures else "") + html)
        for name, (short, title, html) in parts.items()
    ]


def rates_table(answer: BlockFindings) -> str:
    """A row per block and arm: final accuracy at its own best rate, and the range of rates that it holds."""
    rows = [
        [
            str(row["block"]),
            arm_label(row["arm"]),
            str(row["n"]),
            "n/a" if row["best"] is None else f"{row['best']:g}",
            f"{plain(row['own_best'])} [{plain(row['low'])}, {plain(row['high'])}]",
            f"{plain(row['range'], 2)} [{plain(row['range_low'], 2)}, {plain(row['range_high'], 2)}]",
        ]
        for _, row in answer.rates.iterrows()
    ]
    head = [
        "Block",
        "Arm",
        "Seeds",
        "Commonest own best rate",
        "Final accuracy at its own best",
        "Doublings within 0.02",
    ]
    return table(head, rows, texts=2)


def course_table(answer: BlockFindings) -> str:
    """How hard each arm of the stress block trained: damping can look like credit."""
    if answer.stress is None:
        return ""
    course, known = answer.stress.course, [name for name in COURSE_NAMES if name in answer.stress.course]
    rows = [[arm_label(row["arm"]), *(plain(row[name], 3) for name in known)] for _, row in course.iterrows()]
    note = (
        "Means over all steps and seeds. A placebo that damps the gradient or the step may gain by that alone: read "
        "a gain beside the norm of the gradient before clipping, the share of updates that were clipped, the norm of "
        "Adam's change to the weights, and how far an update leaves the policy that sampled."
    )
    return table(["Arm", *(COURSE_NAMES[name] for name in known)], rows) + f'<p class="soft">{escape(note)}</p>'


def _trends(answer: BlockFindings) -> str:
    rows = [
        f"{item.claim.text}: {item.word}, {item.effect} [{item.key}]."
        for item in answer.verdicts
        if item.claim.is_trend
    ]
    return bullets(rows) + paragraph("The effect is the change along a straight line over the log of the setting.")


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
    rows = []
    for block in answer.found.blocks.values():
        levels = ", ".join(f"{level:g}" if isinstance(level, float) else str(level) for level in block.levels)
        varied = f"{block.varied}: {levels}" if block.varied else ""
        arms = ", ".join(block.arms)
        rows.append([block.name, block.question, arms, varied, str(block.seeds), str(len(answer.found.of(block.name)))])
    note = counted(len(set(answer.found.scores["run"])), "run")
    return table(["Block", "Question", "Arms", "Varied", "Seeds", "Scores"], rows, texts=4) + paragraph(
        f"{note}; what two blocks have in common ran once. Seed s starts from warm start s mod "
        f"{answer.found.warm_starts}."
    )
