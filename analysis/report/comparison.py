"""A study -> its report: the page, the verdict for machines, LaTeX tables and figures."""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from analysis.figures.charts import ALL_CHARTS, charts
from analysis.records.outcomes import OUTCOMES
from analysis.records.provenance import Source, commits, confounds, source_of
from analysis.records.study import Study
from analysis.report.claim_tables import claims_table, control_table, evidence_table, sources
from analysis.report.files import Asked, write_charts, write_files
from analysis.report.page import Section, Shown, box, bullets, figure, page, paragraph
from analysis.report.published import published_section
from analysis.report.report_tables import latex_tables
from analysis.report.tables import (
    MAIN,
    MORE,
    difference_table,
    outcome_table,
    pass_rows,
    record_sections,
    within_prompt_rows,
)
from analysis.statistics.pass_at_k import pass_table
from analysis.verdict.findings import Findings, findings
from analysis.verdict.verdicts import ONE_START, Verdict

MAIN_FIGURE = "learning_curves"
READING = (
    "p: two-sided, that the true effect lies at the margin; for an equivalence the larger of two one-sided ones. "
    "Corrected: Holm's over the primary claims, Benjamini and Hochberg's over the exploratory ones. Beside Welch's "
    "test stand the paired t test by seed, since arms share their seeds, and the exact permutation test. Smallest "
    "detectable: the true effect that such seeds would find in 80 % of the studies at the claim's level, from the "
    "spread seen here. Seeds for the margin: per arm, for a true effect one margin beyond the margin, never for the "
    "effect that was observed. With fewer than 5 seeds in an arm nothing is claimed, whatever p says."
)
SHORT = {
    "claims": "Claims",
    "ladder": "Ladder",
    "outcomes": "Outcomes",
    "accuracy_against_tokens": "Tokens",
    "accuracy_against_length": "Length",
    "length_path": "Path",
    "training_dynamics": "Dynamics",
    "response_lengths": "Lengths",
    "clipping_and_weights": "Clips",
    "influence_weights": "Weights",
    "microscope": "Microscope",
}


def write_report(study: Study, output: Path, asked: Asked) -> Verdict:
    """Write report.html, verdict.json, tables and figures into the folder `output`, and hand back the verdict."""
    found = findings(study, asked.axis)
    source = source_of(study, asked.spelled)
    shown = write_charts(charts(found), output, source)
    texts = {
        "report.html": report_html(found, shown, source),
        "verdict.json": json.dumps(found.verdict.as_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        **latex_tables(found, source),
    }
    write_files(texts, shown, output, (list(asked.folders), {**asked.options, "name": study.name}))
    return found.verdict


def write_figures(study: Study, output: Path, asked: Asked, names: Sequence[str] = ()) -> list[str]:
    """Write the figures alone, all (the paper's too) or those named, into output/figures; hand back their names."""
    found = findings(study, asked.axis)
    shown = write_charts(charts(found, names or list(ALL_CHARTS)), output, source_of(study, asked.spelled))
    return [item.name for item in shown]


def report_html(found: Findings, shown: Sequence[Shown], source: Source) -> str:
    """The page: the question, verdict, outcomes and main figure first, everything else below."""
    figures = {item.name: _figure(found, item, source) for item in shown}
    titles = {item.name: item.title for item in shown}
    study = found.study
    sections = [
        Section("evidence", "Evidence", "What the evidence supports", _evidence(found)),
        *(Section(name, SHORT[name], titles[name], html) for name, html in figures.items() if name != MAIN_FIGURE),
        Section("length-table", "Within prompts", "Length within prompts", within_prompt_rows(found.within_prompt)),
        Section("more-outcomes", "More outcomes", "More outcomes per arm", _more_outcomes(found)),
        Section("published", "Published", "Published numbers", published_section(study)),
        Section("arms", "Arms", "What differs between the arms", _arms(study)),
        *record_sections(study),
        Section("method", "Method", "How it was computed", _method()),
    ]
    return page(f"Report on {study.name}", _subtitle(study), _first_screen(found, figures[MAIN_FIGURE]), sections)


def _figure(found: Findings, shown: Shown, source: Source) -> str:
    others = confounds(found.study)
    return figure(shown, source, f" CONFOUNDED: the arms also differ in {', '.join(others)}." if others else "")


def _subtitle(study: Study) -> str:
    description = study.description
    family, preset = description.get("family", "not named"), description.get("preset", "not named")
    counting = f"{len(study.folders)} of {len(study.runs)} runs count"
    runs = counting + (f", {len(study.diverged)} of them diverged" if study.diverged else "")
    made = commits(study.environments)
    return f"Family {family}, preset {preset}; {runs}. {made[0].upper()}{made[1:]}."


def _first_screen(found: Findings, main_figure: str) -> str:
    answer = found.verdict
    parts = [
        f'<p class="question">{escape(answer.question)}</p>',
        claims_table(answer),
        box("verdict", paragraph(answer.sentence) + paragraph(answer.what_it_would_take)),
    ]
    if answer.notes:
        parts.append(box("warning", bullets(answer.notes)))
    if others := confounds(found.study):
        parts.append(box("warning", paragraph(f"Not the losses alone differ here. Confounds: {', '.join(others)}.")))
    table = outcome_table(found, MAIN)
    note = (
        '<p class="soft">Mean over seeds [95 % t interval]; n: seeds. Generated tokens '
        "include discarded ones; seconds depend on what else the machine did.</p>"
    )
    return "\n".join([*parts, main_figure, table, note])


def _evidence(found: Findings) -> str:
    answer = found.verdict
    parts = [evidence_table(answer.claims), f'<div class="soft">{paragraph(READING)}</div>']
    parts += ["<h3>Where the claims were made</h3>", sources(answer.claims)]
    parts += ["<h3>Planted controls</h3>", bullets([answer.positive.sentence, answer.negative.sentence])]
    return "\n".join([*parts, control_table(answer), paragraph(ONE_START)])


def _more_outcomes(found: Findings) -> str:
    note = "Peak accuracy is a maximum over all evaluations and biased upwards by that; it is never compared."
    passed = pass_rows(pass_table(found.answers))
    return outcome_table(found, MORE) + f'<p class="soft">{note}</p><h3>pass@k at the last evaluations</h3>' + passed


def _arms(study: Study) -> str:
    if not study.description.get("differences"):
        return paragraph("The study lists no difference between its arms.")
    others = confounds(study)
    if not others:
        return paragraph("Every difference is one that the family allows.") + difference_table(study)
    return box("warning", paragraph(f"Confounds: {', '.join(others)}.")) + difference_table(study)


def _method() -> str:
    labels = [f"{name}: {outcome.label}" for name, outcome in OUTCOMES.items()]
    return bullets(labels) + paragraph(
        "The unit of every test is the training seed: one score per run. Prompts and samples only make a score less "
        "noisy. The tables behind each figure lie beside it as CSV, the verdict as verdict.json."
    )
