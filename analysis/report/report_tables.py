"""The report's tables for LaTeX."""

import pandas as pd

from analysis.formatting import plain
from analysis.records.outcomes import OUTCOMES, summary_table
from analysis.records.provenance import Source
from analysis.report.claim_tables import claims_frame
from analysis.report.latex import latex_table, with_names
from analysis.report.tables import HEADINGS, MAIN
from analysis.verdict.findings import Findings


def latex_tables(found: Findings, source: Source) -> dict[str, str]:
    """Outcomes, verdict and the within-prompt view as LaTeX, by file name."""
    about = [source.commits, source.claims, f"made by: python -m analysis report {source.given}"]
    tables = {
        "outcomes": (_outcomes(found), "Outcomes per arm: mean over seeds and 95 % t interval."),
        "within_prompt": (_within(found), "Length within prompts: mean over seeds and 95 % t interval."),
    }
    if found.verdict.claims:
        tables["verdict"] = (_verdict(found), "Claims, the intervals that decide them, and the verdicts.")
    return {
        f"tables/{name}.tex": latex_table(frame, caption, f"tab:{name}", about)
        for name, (frame, caption) in tables.items()
    }


def _outcomes(found: Findings) -> pd.DataFrame:
    names = list(MAIN)
    means = summary_table(found.outcomes, names)
    arms = list(dict.fromkeys(means["arm"]))
    columns: dict[str, list[str]] = {"Arm": arms}
    for name in names:
        rows, shown = means[means["outcome"] == name].set_index("arm"), OUTCOMES[name]
        columns[HEADINGS[name]] = [
            " ".join(
                [
                    plain(rows.loc[arm, "mean"] * shown.scale, shown.digits),
                    f"[{plain(rows.loc[arm, 'low'] * shown.scale, shown.digits)},",
                    f"{plain(rows.loc[arm, 'high'] * shown.scale, shown.digits)}]",
                ]
            )
            for arm in arms
        ]
    return pd.DataFrame(columns)


def _verdict(found: Findings) -> pd.DataFrame:
    names = {"claim": "Claim", "role": "Role", "metric": "Metric", "effect": "Effect", "low": "Low", "high": "High"}
    names |= {"level": "Level", "margin": "Margin", "p_corrected": "Corrected p", "verdict": "Verdict"}
    return with_names(claims_frame(found.verdict.claims), names)


def _within(found: Findings) -> pd.DataFrame:
    names = {"arm": "Arm", "measure": "Measure", "mean": "Mean", "low": "Low", "high": "High", "n": "Seeds"}
    return with_names(found.within_prompt, names | {"informative_share": "Informative prompts"})
