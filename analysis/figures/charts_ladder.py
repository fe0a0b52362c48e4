"""The chart of the ladder."""

from analysis.figures.chart import Chart
from analysis.figures.figures_ladder import ladder_gains
from analysis.figures.ladder import gains, rungs
from analysis.formatting import bracket, signed
from analysis.statistics.decisions import FEWEST_SEEDS
from analysis.verdict.findings import Findings, seed_counts


def ladder_chart(found: Findings) -> Chart | None:
    """Each switch's gain over the arm that it was made on; None where the study is no ladder."""
    steps = rungs(found.study)
    if not steps:
        return None
    table, seeds = gains(found.study, found.outcomes, steps)
    few = min(table["n_arm"].min(), table["n_parent"].min()) < FEWEST_SEEDS
    claim = f"With fewer than {FEWEST_SEEDS} seeds no significance is claimed. " if few else ""
    rows = table[table["outcome"] == "auc"]
    told = "; ".join(
        f"{row['arm']} {signed(row['difference'])} {bracket(row['low'], row['high'])}" for _, row in rows.iterrows()
    )
    return Chart(
        "ladder",
        "GRPO into DAPO into FIPO, one switch at a time",
        "Each arm differs from the one named in brackets in the one setting shown. Left: gain in AUC, at equal "
        "training steps. Right: gain in evaluation accuracy where the more frugal run of the two arms ends, counting "
        "every generated token: a switch that generates more (dynamic sampling) pays for it there. Bars: Welch's 95 % "
        f"t interval over seeds, not corrected for the number of rungs. {claim}Exploratory, unless a claim names the "
        f"pair. {seed_counts(found)}",
        ladder_gains(table, seeds),
        {"gains": table, "seeds": seeds},
        f"A row per switch. Gains in AUC: {told}.",
    )
