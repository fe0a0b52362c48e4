"""Influence weights by position, by sign of the advantage and over training, from the tokens that runs kept."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from analysis.figures.canvas import Drawing, grid, handle, whole_steps
from analysis.figures.figure import Figure
from analysis.figures.style import INK, SOFT, LineStyle, Look, Styles, arm_styles, paper
from analysis.statistics.intervals import t_interval
from analysis.verdict.findings import Findings

KEPT = (
    "Runs keep the tokens of four responses a step, right and wrong ones, at the step's last update, where ratios have "
    "moved furthest; at the first update all weights are exactly 1."
)
MOST_TIMES, BIN_TOKENS, FEWEST_TOKENS = 8, 6, 100
SIGNS = {1: "advantage above 0", -1: "advantage below 0"}
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
    drawing, axes = grid(2, 2, 4.9)
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
    names = [handle(style.label, color=style.color, marker=style.marker) for style in styles.values()]
    names += [handle(SIGNS[sign], color=SOFT, linestyle=dash) for sign, dash in DASHES.items()]
    drawing.legend(handles=names, loc="outside upper center", ncols=3)
    return drawing
