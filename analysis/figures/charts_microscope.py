"""The charts of FIPO's weights."""

import pandas as pd

from analysis.figures.chart import Chart
from analysis.figures.figures_microscope import token_view, weight_profiles
from analysis.figures.weights import by_position, by_sign, chosen_responses, quantiles_by_sign
from analysis.verdict.findings import Findings

KEPT = (
    "Runs keep the tokens of four responses a step, right and wrong ones, at the step's last update, where ratios have "
    "moved furthest: at the first update all weights are exactly 1."
)


def microscope_chart(found: Findings) -> Chart | None:
    """Chosen responses token by token; None where no run recorded influence weights."""
    tokens = chosen_responses(found.tokens)
    if tokens.empty:
        return None
    reach = max(0.05, float((tokens["influence_weight"] - 1).abs().max()))
    run = str(tokens["run"].iloc[0])
    columns = ["run", "time", "verdict", "step", "prompt_id", "sample", "position", "text", "log_ratio", "future_kl"]
    return Chart(
        "microscope",
        "The method under the microscope",
        f"Responses of {run}, token by token, coloured by influence weight (white: 1); below, the log-ratio of each "
        "token as bars and the Future-KL as a line, on one scale throughout. Left right, right wrong answers. Chosen "
        "by rule: the run of the lowest seed, the first, the middle and the last step that kept a right and a wrong "
        f"response, and there the first of each, of one prompt where there is one. {KEPT} A: the response's advantage.",
        token_view(tokens, reach),
        {"tokens": tokens[[*columns, "influence_weight", "advantage"]]},
        f"Tokens of {run} coloured by influence weight, from {tokens['influence_weight'].min():.2f} to "
        f"{tokens['influence_weight'].max():.2f}, at steps {', '.join(str(s) for s in dict.fromkeys(tokens['step']))}.",
    )


def weights_chart(found: Findings) -> Chart | None:
    """Weights by position, by sign of the advantage and over training; None where no run recorded any."""
    tokens = found.tokens[found.tokens["influence_weight"].notna()]
    if tokens.empty:
        return None
    tokens = tokens.assign(influence_weight=tokens["influence_weight"].astype(float))
    start, end, signs = by_position(tokens, from_end=False), by_position(tokens, from_end=True), by_sign(tokens)
    spread = quantiles_by_sign(tokens)
    n = "; ".join(f"{arm} {len(rows):,}" for arm, rows in tokens.groupby("arm", sort=False))
    return Chart(
        "influence_weights",
        "Influence weights by place, sign and time",
        f"Mean influence weight with its 95 % t interval over seeds, and its distribution. {KEPT} Bins of fewer than "
        f"20 tokens are left out. Tokens: {n}. Weights near 1 mean that FIPO did nearly what DAPO does.",
        weight_profiles(start, end, signs, spread),
        {"position": start, "from_end": end, "sign": signs, "distribution": spread},
        f"Influence weights by position, by sign of the advantage and over training. {_means(tokens)}",
    )


def _means(tokens: pd.DataFrame) -> str:
    means = tokens.groupby("arm", sort=False)["influence_weight"].mean()
    return "Mean weight: " + "; ".join(f"{arm} {mean:.3f}" for arm, mean in means.items()) + "."
