"""Influence weights of the tokens that runs kept: by position, sign and time, and chosen responses token by token."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from analysis.figures.canvas import Axes, Drawing, fitting, grid, handle, legend, sheet, whole_steps
from analysis.figures.figure import Figure
from analysis.figures.style import INK, LOSSES, SOFT, LineStyle, Look, Styles, arm_styles, paper
from analysis.statistics.intervals import t_interval
from analysis.verdict.findings import Findings

KEPT = (
    "Runs keep the tokens of four responses a step, right and wrong ones, at the step's last update, where ratios have "
    "moved furthest; at the first update all weights are exactly 1."
)
MOST_TIMES, BIN_TOKENS, FEWEST_TOKENS = 8, 6, 100
SIGNS = {1: "advantage above 0", -1: "advantage below 0"}
TIMES, MOST_LETTERS = 3, 48
DARK = 0.35  # of the colour scale, from its middle: beyond it black letters are hard to read
COLORS = "PuOr_r"  # diverging, kept apart by every common colour blindness; white is a weight of 1
COLUMNS = ("run", "time", "verdict", "step", "prompt_id", "sample", "position", "text", "log_ratio", "future_kl")
DASHES: dict[int, LineStyle] = {1: "-", -1: (0, (2, 1.2))}


def weight_figures(found: Findings) -> Iterator[Figure]:
    """One figure for all arms with weights; none where no run kept any."""
    tokens = found.tokens[found.tokens["influence_weight"].notna()]
    if tokens.empty:
        return
    tokens, styles = tokens.assign(influence_weight=tokens["influence_weight"].astype(float)), arm_styles(found.study)
    end = tokens.groupby(["run", "step", "prompt_id", "sample"])["position"].transform("max") - tokens["position"]
    tables = {
        "position": by_position(tokens, tokens["position"]),
        "from_end": by_position(tokens, end),
        "sign": by_sign(tokens),
        "distribution": distribution(tokens),
    }
    means = tokens.groupby("arm", sort=False)["influence_weight"].mean()
    yield Figure(
        "influence_weights",
        "Influence weights by place, sign and time",
        f"Mean weight with its 95 % t interval over seeds, and its distribution. Bins of fewer than {FEWEST_TOKENS} "
        "tokens are left out. Near 1 the weights change little.",
        draw_weights(tables, {arm: styles[arm] for arm in means.index}),
        tables,
        "Influence weights by position, sign and time. Mean weight: "
        + "; ".join(f"{styles[str(arm)].label} {mean:.3f}" for arm, mean in means.items())
        + ".",
        f"{KEPT} Tokens: "
        + "; ".join(f"{styles[str(arm)].label} {len(rows):,}" for arm, rows in tokens.groupby("arm", sort=False))
        + ".",
    )


def by_position(tokens: pd.DataFrame, position: pd.Series) -> pd.DataFrame:
    """Mean weight by bins of the position given for each token: arm, position, mean, low, high, n (tokens)."""
    return over_seeds(tokens.assign(position=position // BIN_TOKENS * BIN_TOKENS), ["position"])


def by_sign(tokens: pd.DataFrame) -> pd.DataFrame:
    """The same by sign of the advantage (1 or -1) and training step, in at most eight bins."""
    width = -(-(int(tokens["step"].max()) + 1) // MOST_TIMES)
    return over_seeds(with_sign(tokens).assign(step=lambda rows: rows["step"] // width * width), ["sign", "step"])


def distribution(tokens: pd.DataFrame) -> pd.DataFrame:
    """All weights of an arm by sign of the advantage: arm, sign, weight, share of tokens at or below it."""
    shares = np.linspace(0.0, 1.0, 101)
    groups = with_sign(tokens).groupby(["arm", "sign"], sort=False)["influence_weight"]
    table = groups.quantile(shares).rename("weight").rename_axis(["arm", "sign", "share"]).reset_index()
    return table[["arm", "sign", "weight", "share"]]


def with_sign(tokens: pd.DataFrame) -> pd.DataFrame:
    """The tokens whose response has an advantage, with its sign."""
    signed = tokens[tokens["advantage"].notna() & tokens["advantage"].ne(0)]
    return signed.assign(sign=np.sign(signed["advantage"].astype(float)).astype(int))


def over_seeds(tokens: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean of each seed's mean weight, with its t interval over seeds; groups of few tokens left out."""
    rows = []
    for key, group in tokens.groupby(["arm", *by], sort=False):
        if len(group) >= FEWEST_TOKENS:
            interval = t_interval(group.groupby("seed")["influence_weight"].mean().to_numpy(float))
            row = dict(zip(["arm", *by], key, strict=True))
            rows.append(row | {"mean": interval.mean, "low": interval.low, "high": interval.high, "n": len(group)})
    table = pd.DataFrame(rows, columns=["arm", *by, "mean", "low", "high", "n"])
    table = table.astype(dict.fromkeys([*by, "n"], int) | dict.fromkeys(["mean", "low", "high"], float))
    return table.sort_values(["arm", *by], ignore_index=True, kind="stable")


@paper()
def draw_weights(tables: dict[str, pd.DataFrame], styles: Styles) -> Drawing:
    """tables: by position, from_end and sign, and the distribution, as the functions above give them."""
    drawing, axes = grid(4, 2, 2.3, 0.3)
    for arm, style in styles.items():
        for ax, name in zip(axes, ("position", "from_end"), strict=False):
            rows = tables[name][tables[name]["arm"] == arm]
            ax.fill_between(rows["position"], rows["low"], rows["high"], color=style.color, alpha=0.15, linewidth=0)
            ax.plot(rows["position"], rows["mean"], color=style.color, marker=style.marker)
        for sign, dash in DASHES.items():
            look: Look = {"color": style.color, "linestyle": dash}
            rows, spread = (
                t[(t["arm"] == arm) & (t["sign"] == sign)] for t in (tables["sign"], tables["distribution"])
            )
            axes[2].plot(rows["step"], rows["mean"], **look)
            axes[2].fill_between(rows["step"], rows["low"], rows["high"], color=style.color, alpha=0.1, linewidth=0)
            axes[3].plot(spread["weight"], spread["share"], **look)
    titles = ("By position", "By distance to the end", "By sign, over training", "Distribution")
    labels = ("token", "tokens before the last", "training step", "influence weight")
    for ax, title, label in zip(axes, titles, labels, strict=True):
        ax.set_title(title)
        ax.set(xlabel=label, ylabel="mean influence weight" if ax is not axes[3] else "share of tokens at or below")
    whole_steps(axes[2])
    for ax, name in zip(axes, ("position", "from_end", "sign"), strict=False):
        ax.axhline(1.0, color=INK, linewidth=0.8, linestyle=":")
        if len(tables[name]):  # the means set the scale: an interval over three seeds may dwarf everything else
            low, high = float(tables[name]["mean"].min()), float(tables[name]["mean"].max())
            room = 0.15 * (high - low) or 0.01
            ax.set_ylim(min(low, 1.0) - room, max(high, 1.0) + room)
    axes[3].xaxis.set_major_locator(MaxNLocator(5))
    names = [handle(style.label, color=style.color, marker=style.marker) for style in styles.values()]
    legend(drawing, [*names, *(handle(SIGNS[sign], color=SOFT, linestyle=dash) for sign, dash in DASHES.items())])
    return drawing


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
        f"{KEPT} A: the response's advantage.",
    )


def chosen_responses(tokens: pd.DataFrame) -> pd.DataFrame:
    """The tokens of a right and a wrong response at three steps, by a rule, so that nobody can have picked them.

    Adds `time` (0, 1, 2) and `verdict` (right, wrong); empty where there are none.
    """
    if tokens.empty:
        return tokens
    of_arm = tokens[tokens["arm"] == tokens["arm"].iloc[0]]
    run = of_arm[of_arm["seed"] == of_arm["seed"].min()]
    pairs = {step: pair for step, rows in run.groupby("step", sort=True) if (pair := _pair(rows)) is not None}
    steps = list(pairs)
    places = np.linspace(0, len(steps) - 1, TIMES).round().astype(int)
    picked = sorted({steps[place] for place in places}) if steps else []
    parts = [pairs[step].assign(time=time) for time, step in enumerate(picked)]
    return pd.concat(parts, ignore_index=True) if parts else run.iloc[:0]


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
