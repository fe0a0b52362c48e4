"""Influence weights of the tokens that runs kept, of chosen responses token by token."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from analysis.figures.canvas import Axes, Drawing, fitting, handle, legend, sheet
from analysis.figures.figure import Figure
from analysis.figures.style import INK, LOSSES, paper
from analysis.verdict.findings import Findings

TIMES, MOST_LETTERS = 3, 48
DARK = 0.35  # of the colour scale, from its middle: beyond it black letters are hard to read
COLORS = "PuOr_r"  # diverging, kept apart by every common colour blindness; white is a weight of 1
COLUMNS = ("run", "time", "verdict", "step", "prompt_id", "sample", "position", "text", "log_ratio", "future_kl")


def microscope_figures(found: Findings) -> Iterator[Figure]:
    """Right and wrong responses of one run at three steps; none where no run kept weights."""
    tokens = chosen_responses(found.tokens)
    if tokens.empty:
        return
    run, weights = str(tokens["run"].iloc[0]), tokens["influence_weight"]
    steps = ", ".join(str(step) for step in dict.fromkeys(tokens["step"]))
    yield Figure(
        "microscope",
        "Influence weights, token by token",
        f"Responses of {run} at steps {steps}: right ones on the left, wrong ones on the right. White is a weight of "
        "1; each response has its own scale of log-ratio and Future-KL.",
        draw_tokens(tokens, max(0.05, float((weights - 1).abs().max()))),
        {"tokens": tokens[[*COLUMNS, "influence_weight", "advantage"]]},
        f"Tokens of {run} coloured by influence weight, from {weights.min():.2f} to {weights.max():.2f}, at steps "
        f"{steps}.",
        "Chosen by rule: of the first arm with weights the run of the lowest seed; the first, the middle and the last "
        "step that kept a right and a wrong response, and there the first of each, of one prompt where there is one. "
        "Runs keep the tokens of four responses a step at the step's last update, where ratios have moved furthest; at "
        "the first update all weights are exactly 1. A: the response's advantage.",
    )


def chosen_responses(tokens: pd.DataFrame) -> pd.DataFrame:
    """The tokens of a right and a wrong response at three steps, by a rule, so that nobody can have picked them.

    Adds `time` (0, 1, 2) and `verdict` (right, wrong); empty where there are none.
    """
    pairs = {step: pair for step, rows in tokens.groupby("step", sort=True) if (pair := _pair(rows)) is not None}
    steps = list(pairs)
    places = np.linspace(0, len(steps) - 1, TIMES).round().astype(int)
    picked = sorted({steps[place] for place in places}) if steps else []
    parts = [pairs[step].assign(time=time) for time, step in enumerate(picked)]
    return pd.concat(parts, ignore_index=True) if parts else tokens.iloc[:0]


def _pair(rows: pd.DataFrame) -> pd.DataFrame | None:
    """A right and a wrong response of one step, of one prompt where there is one; None where one kind is missing."""
    heads = rows.drop_duplicates(["prompt_id", "sample"])
    right, wrong = heads[heads["correct"].eq(True)], heads[heads["correct"].eq(False)]
    if right.empty or wrong.empty:
        return None
    shared = [prompt for prompt in right["prompt_id"] if prompt in set(wrong["prompt_id"])]
    parts = []
    for verdict, kind in (("right", right), ("wrong", wrong)):
        head = (kind[kind["prompt_id"] == shared[0]] if shared else kind).iloc[0]
        same = (rows["prompt_id"] == head["prompt_id"]) & (rows["sample"] == head["sample"])
        parts.append(rows[same].sort_values("position").assign(verdict=verdict))
    both: pd.DataFrame = pd.concat(parts)
    return both


@paper()
def draw_tokens(tokens: pd.DataFrame, reach: float) -> Drawing:
    """Two rows of axes per time, right beside wrong. reach: the distance from 1 at which the colour is full."""
    shown, columns, norm = tokens.groupby(["time", "verdict"]), fitting(2), Normalize(1 - reach, 1 + reach)
    rows = 2 * -(-len(shown) // columns)
    drawing = sheet(0.775 * rows + 0.5)
    axes = drawing.subplots(rows, columns, squeeze=False, height_ratios=[0.5, 1] * (rows // 2))
    for place, (_, response) in enumerate(shown):  # by time, and there the right one first
        row, column = 2 * (place // columns), place % columns
        _cells(axes[row, column], response.iloc[:MOST_LETTERS], norm)
        _traces(axes[row + 1, column], response.iloc[:MOST_LETTERS])
    bar = drawing.colorbar(ScalarMappable(norm, COLORS), ax=axes, location="bottom", shrink=0.5, aspect=40, pad=0.01)
    bar.set_label("influence weight")
    lines = [
        handle("Future-KL", color=INK, linewidth=1.2),
        handle("log-ratio", color=LOSSES["grpo"], linewidth=3, alpha=0.6),
    ]
    legend(drawing, lines)
    return drawing


def _cells(ax: Axes, rows: pd.DataFrame, norm: Normalize) -> None:
    weights = rows["influence_weight"].to_numpy(float)[None, :]
    ax.imshow(weights, cmap=COLORS, norm=norm, aspect="auto", extent=(-0.5, len(rows) - 0.5, 0, 1))
    for place, (text, shade) in enumerate(zip(rows["text"], norm(weights[0]), strict=True)):
        letters = "\N{OPEN BOX}" if str(text).isspace() else str(text).replace("$", r"\$")[:4]
        label = ax.text(place, 0.48, letters, ha="center", va="center", size=6.5, family="DejaVu Sans Mono")
        label.set_color("white" if abs(float(shade) - 0.5) > DARK else "black")
    head, cut = rows.iloc[0], ", cut" if len(rows) == MOST_LETTERS else ""
    prompt = str(head["prompt"]).replace("$", r"\$").strip(":")
    prompt = prompt if len(prompt) <= 18 else f"{prompt[:17]}\N{HORIZONTAL ELLIPSIS}"
    words = f"{prompt} = {head['target']}, A {float(head['advantage']):+.2f}"
    ax.set_title(f"step {head['step']}, {head['verdict']}{cut}: {words}", fontsize=6.5)
    ax.set(xlim=(-0.5, MOST_LETTERS - 0.5), xticks=[], yticks=[])
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)


def _traces(ax: Axes, rows: pd.DataFrame) -> None:
    limit = 1.1 * float(np.nanmax(np.abs(rows[["log_ratio", "future_kl"]].to_numpy(float)))) or 1.0
    ax.bar(np.arange(len(rows)), rows["log_ratio"], color=LOSSES["grpo"], alpha=0.6, width=0.8)
    ax.plot(np.arange(len(rows)), rows["future_kl"], color=INK, linewidth=1.0)
    ax.axhline(0.0, color=INK, linewidth=0.6)
    ax.set(xlim=(-0.5, MOST_LETTERS - 0.5), ylim=(-limit, limit), xticks=[])
    ax.tick_params(labelsize=6)
