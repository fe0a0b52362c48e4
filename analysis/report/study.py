"""A study -> its report: verdict, effects and cost on the first screen, the rest folded, by what the study has."""

from collections.abc import Sequence
from hashlib import sha256
from html import escape
from pathlib import Path

from analysis.figures.catalogue import NAMES, STUDY, study_figures
from analysis.records.outcomes import OUTCOMES
from analysis.records.provenance import Source, commits, confounds, environment_rows, not_used
from analysis.records.study import Study
from analysis.report import tables
from analysis.report.files import Asked, json_text, write_figures, write_files
from analysis.report.page import Section, Shown, box, bullets, figure, figures, folded, page, paragraph
from analysis.report.tables import Table
from analysis.verdict.findings import Findings
from analysis.verdict.sentences import control_sentences, cost, headline, limits, statement, what_it_would_take

MAIN_FIGURES = "claims", "credit"
MOST_SENTENCES, MOST_NOT_TESTED = 6, 2
METHOD = (
    "The unit of every test is the training seed, or the fork where runs continue states of recorded runs. Runs of one "
    "seed or fork share warm start or state, prompts and random numbers, so where 5 seeds or all of an arm's are "
    "shared the paired differences decide; Welch's test, which takes arms as independent, stands beside.",
    "A primary claim is decided at level 1 - .05/m, for m primary claims; where a scored run collapsed (diverged, or "
    "ended no better than it began) the exact signed-rank interval decides, a primary claim from at least 8 seeds and "
    "any claim from as many as such an interval needs (6 at 95 %). Exploratory claims are decided at 5 % each, with "
    "Benjamini and Hochberg's p beside.",
    "p of the margin: two-sided, that the true effect lies at the margin; for an equivalence the larger of two "
    "one-sided ones. Detectable: the true effect that such seeds would find in 80 % of studies. Seeds for the margin: "
    "for a true effect one margin beyond the margin, never for the effect that was observed.",
    "Own best: each seed is scored at the level that is best in the mean of the other seeds.",
)
UNIT_IMPORTED = (
    "The unit of every test is the training seed. Whether runs of one seed share start, prompts and random numbers is "
    "not known; where 5 seeds or all of an arm's are shared the paired differences decide, and Welch's test stands "
    "beside.",
)
COURSE_NOTE = (
    "Means over all steps and seeds. A placebo that damps the gradient or the step may gain by that alone: read a gain "
    "beside the gradient's norm, the share of updates that were clipped and the size of Adam's step."
)


def write_study_report(found: Findings, output: Path, asked: Asked) -> list[str]:
    """Write report.html, verdict.json, scores.csv and figures into `output`, and hand back what was found."""
    source = study_source(found.study, asked.spelled)
    shown = write_figures(study_figures(found), output, source)
    texts = {"report.html": study_page(found, shown, source), **study_files(found)}
    write_files(texts, shown, output, asked)
    return study_lines(found)


def study_source(study: Study, given: str) -> Source:
    """The source of every figure of a study."""
    claims = f"claims {study.claims.name}, sha256 {study.claims.sha256}" if study.claims else "no claims were fixed"
    return Source(list(map(str, study.environments["run"])), commits(study.environments), claims, given, NAMES)


def study_lines(found: Findings) -> list[str]:
    """What the terminal shows: notes, the headline, a sentence a claim, what it would take."""
    sentences = [statement(item) for item in found.verdicts]
    credit = found.credit.sentences if found.credit else []
    asked = [row.sentence for row in found.by_question]
    return [*found.notes, headline(found), *sentences, *asked, *credit, what_it_would_take(found)]


def study_files(found: Findings) -> dict[str, str]:
    """The files beside the page, by name."""
    answer = {"complete": found.is_complete, "headline": headline(found), **found.as_json()}
    scores = found.scores.astype({"level": str}) if found.scores["level"].notna().any() else found.scores
    return {"verdict.json": json_text(answer), "scores.csv": scores.to_csv(index=False, float_format="%.10g")}


def study_page(found: Findings, shown: Sequence[Shown], source: Source) -> str:
    """The whole page."""
    parts = first_screen(found, shown, source), study_sections(found, shown, source)
    return page(_title(found.study), _subtitle(found), *parts)


def first_screen(found: Findings, shown: Sequence[Shown], source: Source) -> str:
    """Beside each other: the verdict, a sentence a claim, the cost and what was not tested; and the effects."""
    primary, rest = ([item for item in found.verdicts if item.is_primary is which] for which in (True, False))
    said, more = ([statement(item) for item in items] for items in (primary, rest))
    if len(said) + len(more) <= MOST_SENTENCES:
        said, more = [*said, *more], []
    words = [
        box("verdict", f"<p><b>{escape(headline(found))}</b></p>" + bullets(said)),
        folded(f"{len(more)} exploratory claims", bullets(more)),
        folded("The same answers by question", bullets([row.sentence for row in found.by_question])),
        folded("Is it credit?", bullets(found.credit.sentences)) if found.credit else "",
        paragraph(f"Cost: {cost(found)}."),
        _not_tested(found),
        folded("What the controls show", bullets(control_sentences(found))),
        folded(
            "What this is conditional on, and what it would take", bullets([limits(found), what_it_would_take(found)])
        ),
        box("warning", folded(f"{len(found.notes)} notes on the runs", bullets(found.notes)) if found.notes else ""),
    ]
    main = [figure(item, source, _warning(found)) for item in shown if item.name in MAIN_FIGURES]
    return f'<div class="screen"><div>{"".join(words)}</div>\n<div>{"".join(main)}</div></div>'


def study_sections(found: Findings, shown: Sequence[Shown], source: Source) -> list[Section]:
    """Everything below the first screen; a section without content is left out by the page."""
    study, items = found.study, [item for item in shown if item.name not in MAIN_FIGURES]
    parts = [Section("verdicts", "Every claim and control", _verdicts(found))]
    for name, group in STUDY.items():
        drawn = figures(items, name, source, _warning(found))
        parts.append(Section(name.replace("_", "-"), group.title, drawn + _tables_of(found, name)))
    outcomes = [f"{name}: {outcome.label}" for name, outcome in OUTCOMES.items()]
    where = Table(["Field", "Value"], environment_rows(study), words=2).html
    unit = UNIT_IMPORTED if study.is_imported else METHOD[:1]
    where = _runs(source) if study.is_imported else paragraph(f"{commits(study.environments)}.") + where + _runs(source)
    return [
        *parts,
        Section("arms", "What differs between the arms", _arms(found)),
        Section("not-used", "Runs that did not enter", _left_out(study)),
        Section("runs", "Where it ran, and the runs it was made from", where),
        Section("method", "How it was computed", bullets([*outcomes, *unit, *METHOD[1:]])),
    ]


def _tables_of(found: Findings, group: str) -> str:
    """The tables that stand below a group of figures."""
    study, unvaried = found.study, [block for block in found.study.blocks.values() if not block.varied]
    parts = []
    if group == "levels":
        varied = [block for block in study.blocks.values() if block.varied]
        parts = [f"<h3>{escape(block.name)}</h3>{tables.level_table(found, block).html}" for block in varied]
    elif group == "gains":
        for item in found.gains:
            table = tables.gain_table(study, item).html
            parts.append(f"<h3>{escape(item.block)}</h3>{table}{paragraph(COURSE_NOTE, 'soft')}")
    elif group == "credit" and found.credit:
        parts = [tables.credit_table(found.credit).html, tables.agreement_table(found.credit).html]
    elif group == "outcomes":
        for block in unvaried:
            parts.append(f"<h3>{escape(block.name)}</h3>" if len(study.blocks) > 1 else "")
            parts.append(tables.outcome_table(found, block.name).html)
    return "".join(parts)


def _verdicts(found: Findings) -> str:
    claimed = [f"{item.key} {item.claim.text}: {item.claim.source}" for item in found.verdicts]
    return (
        tables.verdict_table(found).html
        + tables.evidence_table(found).html
        + folded("Where the claims were made", bullets(claimed))
    )


def _arms(found: Findings) -> str:
    if not found.study.is_comparison:
        return tables.block_table(found).html
    others = confounds(found.study)
    warned = box("warning", paragraph(f"Confounds: {', '.join(others)}.")) if others else ""
    return warned + tables.difference_table(found.study).html


def _warning(found: Findings) -> str:
    others = confounds(found.study)
    return f" CONFOUNDED: the arms also differ in {', '.join(others)}." if others else ""


def _title(study: Study) -> str:
    return str(study.description.get("design", {}).get("title") or f"Report on {study.name}")


def _subtitle(found: Findings) -> str:
    study, given = found.study, found.study.description
    counting = f"{len(study.folders)} of {len(study.runs)} runs count"
    diverged = f", {len(study.diverged)} of them diverged" if study.diverged else ""
    flags = "".join(f", --{name} {value}" for name, value in given.get("design", {}).get("flags", {}).items())
    head = f"Family {given.get('family', 'not named')}, preset {given.get('preset', 'not named')}{flags}"
    asked = found.question if found.question.endswith("?") else f"{found.question.rstrip('.')}."
    if study.is_imported:
        return f"{asked} Runs of other trainers, imported; {counting}{diverged}."
    question = "" if found.question == _title(study) else f"{asked} "
    return f"{question}{head}; {counting}{diverged}; {commits(study.environments)}."


def _not_tested(found: Findings) -> str:
    said = [f"{text} ({why})" for text, why in found.not_tested]
    if not said:
        return paragraph("Not tested: no claim lacked runs.")
    if len(said) <= MOST_NOT_TESTED:
        return paragraph(f"Not tested: {'; '.join(said)}.")
    return folded(f"Not tested: {len(said)} claims", bullets(said))


def _left_out(study: Study) -> str:
    rows = [[str(cell) for cell in row] for row in not_used(study).itertuples(index=False)]
    table = Table(["Run", "State", "Steps done", "Reason"], rows, words=4)
    return table.html or paragraph("None: every planned run finished.")


def _runs(source: Source) -> str:
    """The one list of runs, with a hash by which figures in other places can be told to be of the same."""
    digest = sha256("\n".join(source.runs).encode()).hexdigest()[:12]
    return folded(f"{len(source.runs)} runs (list sha256 {digest}); {source.claims}", paragraph(", ".join(source.runs)))
