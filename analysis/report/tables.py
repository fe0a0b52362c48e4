"""The report's tables as HTML: numbers in, escaped cells out."""

from collections.abc import Sequence
from html import escape

import pandas as pd

from analysis.figures.style import arm_label, arm_styles
from analysis.formatting import p_value, with_interval
from analysis.records.outcomes import OUTCOMES, summary
from analysis.records.provenance import commits, environment_rows, not_used
from analysis.records.study import Study
from analysis.report.page import Section, paragraph
from analysis.statistics.intervals import Interval
from analysis.verdict.findings import Findings

MAIN = ("auc", "final_accuracy", "final_response_tokens", "generated_tokens", "seconds")
MORE = ("start_accuracy", "accuracy_at_equal_tokens", "discarded_tokens", "peak_accuracy", "peak_inflation")
HEADINGS = {
    "auc": "AUC (primary)",
    "final_accuracy": "Final accuracy",
    "final_response_tokens": "Response tokens",
    "generated_tokens": "Generated tokens, thousands",
    "seconds": "Seconds",
    "start_accuracy": "Accuracy before training",
    "accuracy_at_equal_tokens": "Accuracy at equal generated tokens",
    "discarded_tokens": "Discarded tokens, thousands",
    "peak_accuracy": "Peak accuracy (biased upwards)",
    "peak_inflation": "Peak: luck alone gives up to",
    "length_slope": "Length slope within prompt",
}


def table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1, name: str = "") -> str:
    """An HTML table that scrolls where the page is narrower; the first `texts` columns hold words, not numbers."""
    heads = "".join(f'<th scope="col"{_kind(place, texts)}>{escape(title)}</th>' for place, title in enumerate(head))
    body = "".join(
        "<tr>" + "".join(f"<td{_kind(place, texts)}>{escape(cell)}</td>" for place, cell in enumerate(row)) + "</tr>\n"
        for row in rows
    )
    label = escape(name or f"Table: {', '.join(head[:3])}")
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table><thead><tr>{heads}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def outcome_table(found: Findings, names: Sequence[str]) -> str:
    """A row per arm: seeds, and mean with t interval of each outcome."""
    by_outcome = {name: summary(found.outcomes, name) for name in names}
    counts = found.outcomes.groupby("arm", sort=False).size()
    styles = arm_styles([str(arm) for arm in counts.index])
    rows = [
        [style.label, str(counts[arm]), *(_outcome_cell(by_outcome[name][arm], name) for name in names)]
        for arm, style in styles.items()
    ]
    return table(["Arm", "n", *(HEADINGS[name] for name in names)], rows)


def difference_table(study: Study) -> str:
    """A row per setting that differs between the arms, and whether the family allows it."""
    differences = study.description.get("differences", [])
    arms = [arm.name for arm in study.arms]
    rows = [
        [
            str(item["field"]),
            "yes" if item.get("allowed", True) else "CONFOUND",
            *(str(item["values"].get(arm, "not compared")) for arm in arms),
        ]
        for item in differences
    ]
    return table(["Setting", "Admitted", *arms], rows, texts=2 + len(arms))


def within_prompt_rows(within: pd.DataFrame) -> str:
    """A row per arm of the within-prompt view."""
    concordance, slope = (within[within["measure"] == name].set_index("arm") for name in ("concordance", "slope"))
    rows = [
        [
            arm_label(str(arm)),
            f"{row['n']}",
            with_interval(_interval(row)),
            p_value(row["p"]),
            with_interval(_interval(of_slope), 2),
            f"{row['informative_share']:.0%} of {row['prompts']:,}",
            f"{row['truncated_share']:.2%}",
        ]
        for (arm, row), (_, of_slope) in zip(concordance.iterrows(), slope.iterrows(), strict=True)
    ]
    head = ["Arm", "n", "P(right answer is longer)", "Permutation p, these policies", "Logit slope per log token"]
    return table([*head, "Prompts with right and wrong", "Cut off"], rows)


def pass_rows(passed: pd.DataFrame) -> str:
    """A row per arm, a column per k; k = 1 is the mean accuracy."""
    ks = [int(k) for k in dict.fromkeys(passed["k"])]
    rows = [
        [
            arm_label(str(arm)),
            str(of_arm["n"].iloc[0]),
            *(with_interval(_interval(row)) for _, row in of_arm.iterrows()),
        ]
        for arm, of_arm in passed.groupby("arm", sort=False)
    ]
    return table(["Arm", "n", *(f"pass@{k}" for k in ks)], rows)


def not_used_table(study: Study) -> str:
    """The runs that did not enter the comparison, or a line that says there are none."""
    rows = [[str(cell) for cell in row] for row in not_used(study).itertuples(index=False)]
    if not rows:
        return "<p>None: every planned run finished.</p>"
    return table(["Run", "State", "Steps done", "Reason"], rows, texts=4)


def environment_table(study: Study) -> str:
    """What the runs ran on."""
    return table(["Field", "Value"], environment_rows(study), texts=2)


def _outcome_cell(interval: Interval, name: str) -> str:
    outcome = OUTCOMES[name]
    mean, low, high = (value * outcome.scale for value in (interval.mean, interval.low, interval.high))
    return with_interval(Interval(mean, low, high, interval.n), outcome.digits)


def _interval(row: pd.Series) -> Interval:
    return Interval(row["mean"], row["low"], row["high"], row["n"])


def _kind(place: int, texts: int) -> str:
    return "" if place < texts else ' class="number"'


def record_sections(study: Study) -> list[Section]:
    """What every report says of its records: which runs did not enter, and where the others ran."""
    where = paragraph(commits(study.environments) + ".") + environment_table(study)
    return [
        Section("not-used", "Runs left out", "Runs that did not enter", not_used_table(study)),
        Section("environment", "Environment", "Where it ran", where),
    ]
