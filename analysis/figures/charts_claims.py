"""The chart of the verdict."""

from analysis.figures.chart import Chart
from analysis.figures.claims import claims_forest
from analysis.report.claim_tables import UNITS, claims_frame
from analysis.verdict.findings import Findings, seed_counts
from analysis.verdict.verdicts import effect_words


def claims_chart(found: Findings) -> Chart | None:
    """Every tested claim with its interval and margin; None where nothing can be tested."""
    claims = found.verdict.claims
    if not claims:
        return None
    primary = len(found.verdict.primary)
    level = f"1 - .05/{primary}" if primary else "95 %"
    alt = "; ".join(
        f"{item.claim.text}: {effect_words(item.evidence, item.claim.metric)}, {item.evidence.decision}"
        for item in claims
    )
    return Chart(
        "claims",
        "The claims and what the seeds say to them",
        f"Each claim's effect with the interval that decides it: for the {primary} primary claims at level {level} "
        "(Bonferroni; for an equivalence twice the error, as two one-sided tests have it), for exploratory ones, drawn "
        "open, at 95 % and uncorrected. A claim is supported where its interval lies wholly in the shaded region, "
        "contradicted where it lies wholly outside, else undecided; with fewer than 5 seeds in an arm it is undecided "
        "whatever the interval. Welch's t interval of the difference over seeds; where a run diverged, the median of "
        f"the pairwise differences and its exact interval. {seed_counts(found)}",
        claims_forest(claims_frame(claims), UNITS),
        {"verdict": claims_frame(claims)},
        f"A forest plot of {len(claims)} claims. {alt}.",
    )
