"""The figures of a study of several blocks in the order of its report, with captions, data and words for the blind."""

from collections.abc import Callable, Sequence

import pandas as pd

from analysis.figures.blocks import PART_NAMES, gains, grids, over_rates, variance_bars
from analysis.figures.chart import Chart
from analysis.figures.style import arm_label
from analysis.formatting import bracket, counted, listed, plain, signed
from analysis.statistics.intervals import t_interval
from analysis.statistics.variance import PARTS, Parts
from analysis.verdict.block_findings import ACTED, BlockFindings, grid_blocks, grid_table, rate_panels, setting_words
from analysis.verdict.mechanism import Mechanism

WEIGHTS = "FIPO's weights lie in [1, 1.2], wide ones in [0.5, 1.5]"


def block_charts(answer: BlockFindings, names: Sequence[str] = ()) -> list[Chart]:
    """The figures, all or those named, those without data left out."""
    drawn = [BLOCK_CHARTS[name](answer) for name in names or BLOCK_CHARTS]
    return [chart for chart in drawn if chart is not None]


def _robustness(answer: BlockFindings) -> Chart | None:
    found = answer.found
    panels = rate_panels(found)
    if not panels:
        return None
    start = float(found.scores["start_accuracy"].mean())
    dots = found.of("stress")[["arm", "seed", "final_accuracy"]] if "stress" in found.blocks else None
    rates = pd.concat([rows.assign(panel=title) for title, rows in panels.items()])
    tables = {"rates": rates, "own_best": answer.rates}
    if dots is not None:
        tables["stress"] = dots
    title = "" if dots is None else f"At {setting_words(found, 'stress')}"
    figure = over_rates(panels, start, dots, title.removesuffix(" per rollout"))
    seeds = listed(
        [f"{arm_label(str(arm))} {n}" for arm, n in rates.groupby("arm", sort=False)["seed"].nunique().items()]
    )
    caption = (
        f"Final accuracy over learning rates, over {counted(found.warm_starts, 'warm start')} (seeds: {seeds}): each "
        f"seed, mean and 95 % t interval; {WEIGHTS}. Dashed: accuracy before training. "
        "Right: the placebos of the wide weights at one rate, where training is close to breaking. "
        f"Each at its own best rate, chosen on the other seeds: {_own_best(answer)}."
    )
    return Chart("robustness", "Over learning rates", caption, figure, tables, _own_best(answer))


def _own_best(answer: BlockFindings) -> str:
    return "; ".join(
        f"{block}: "
        + ", ".join(
            f"{arm_label(row['arm'])} {plain(row['own_best'])} [{plain(row['low'])}, {plain(row['high'])}]"
            for _, row in rows.iterrows()
        )
        for block, rows in ((str(name), rows) for name, rows in answer.rates.groupby("block", sort=False))
    )


def _mechanism(answer: BlockFindings) -> Chart | None:
    if answer.stress is None or answer.stress.gains.empty:
        return None
    item = answer.stress
    shares = pd.DataFrame([{"arm": arm, **vars(share), "words": share.words} for arm, share in item.shares.items()])
    shown = shares if len(shares) and shares["low"].notna().any() else None
    where = "Not drawn" if shown is None else "Right"
    caption = (
        f"Gain in final accuracy over DAPO at {setting_words(answer.found, 'stress')}, seed by seed, mean "
        "and 95 % t interval of the paired differences. The placebos use the wide weights without their places: one "
        "mean per sign of the advantage, permuted within each response, permuted over the optimizer step. "
        f"{where}: the share of the wide weights' own gain that each has (Fieller's interval): {item.share_words}."
    )
    figure = gains(item.gains, "gain in final accuracy over DAPO", shown, "share of the wide weights' gain")
    tables = {"gains": item.gains, "means": item.means, "shares": shares, "course": item.course}
    return Chart("mechanism", "What is left without token credit", caption, figure, tables, _means(item))


def _controls(answer: BlockFindings) -> Chart | None:
    if answer.blame is None or answer.blame.gains.empty:
        return None
    item = answer.blame
    caption = (
        "The positive control and its own placebos at the demo's preset: gain in AUC over DAPO, seed by seed, mean and "
        "95 % t interval of the paired differences. blame lays a wrong response's negative advantage on its first "
        "wrong step; the others lay the same sum on all of its tokens, or on a step at random."
    )
    figure = gains(item.gains, "gain in AUC over DAPO")
    return Chart(
        "controls",
        "Where a negative advantage falls",
        caption,
        figure,
        {"gains": item.gains, "means": item.means},
        _means(item),
    )


def _means(item: Mechanism) -> str:
    rows = [
        f"{arm_label(row['arm'])} {signed(row['mean'])} {bracket(row['low'], row['high'])}"
        for _, row in item.means.iterrows()
    ]
    return f"Gain over {arm_label(item.baseline)}: {'; '.join(rows)}."


def _grids(answer: BlockFindings) -> Chart | None:
    found = answer.found
    panels = {str(block.varied): grid_table(found, block) for block in grid_blocks(found) if len(found.of(block.name))}
    if not panels:
        return None
    first = grid_blocks(found)[0]
    arm, setting = first.arms[0], setting_words(found, first.name)
    caption = (
        f"Designed grids over one setting each, in {arm_label(arm)} where weights act most ({setting}): every seed, "
        "mean and 95 % t interval. Below: the share of trained tokens on which the setting acted, "
        f"{listed([f'{name} ({WORDS[name]})' for name in panels])}."
    )
    words = "; ".join(_grid_words(name, rows) for name, rows in panels.items())
    return Chart("grids", "Settings of the weights", caption, grids(panels, arm), dict(panels), words)


WORDS = {
    "fipo_decay_rate": "a weight further than 0.001 from 1",
    "fipo_clip_range": "a weight stopped at a bound",
    "fipo_safety_threshold": "a negative token's ratio above it",
}
assert WORDS.keys() == ACTED.keys()


def _grid_words(name: str, rows: pd.DataFrame) -> str:
    each = [
        f"{level:g}: {plain(t_interval(of['final_accuracy'].to_numpy(float)).mean)}"
        for level, of in rows.groupby("level")
    ]
    return f"{name} {', '.join(each)}"


def _variance(answer: BlockFindings) -> Chart | None:
    if answer.variance is None:
        return None
    item = answer.variance
    kinds = {
        f"accuracy of one {arm_label(item.arms[1])} run": item.single,
        f"the same, {arm_label(item.arms[0])} - {arm_label(item.arms[1])}, paired": item.difference,
        f"AUC, {arm_label(item.arms[0])} - {arm_label(item.arms[1])}, paired": item.auc,
    }
    size = (item.prompts, item.answers)
    rows = pd.DataFrame([row for what, parts in kinds.items() for row in _parts(what, parts, size)])
    caption = (
        f"Variance of the accuracy at the last evaluation ({item.prompts} prompts, {counted(item.answers, 'answer')} "
        "each) of one run, of the difference of a pair of runs, and of such a pair's AUC, split by moments from "
        f"{counted(item.seeds, 'seed')} of each arm: {listed(_spreads(rows))}. "
        "Prompts count once, however many runs are asked them; a difference on the same prompts holds only what they "
        "do differently."
    )
    return Chart("variance", "Where the variance comes from", caption, variance_bars(rows), {"parts": rows}, caption)


def _parts(what: str, parts: Parts, size: tuple[int, int]) -> list[dict[str, object]]:
    values = parts.of_mean(1, 1, *size)
    total = sum(values.values()) or 1.0
    return [
        {"what": what, "part": part, "name": PART_NAMES[part], "variance": values[part], "share": values[part] / total}
        for part in PARTS
    ]


def _spreads(rows: pd.DataFrame) -> list[str]:
    return [f"{what} sd {plain(float(of['variance'].sum()) ** 0.5)}" for what, of in rows.groupby("what", sort=False)]


BLOCK_CHARTS: dict[str, Callable[[BlockFindings], Chart | None]] = {
    "robustness": _robustness,
    "mechanism": _mechanism,
    "controls": _controls,
    "grids": _grids,
    "variance": _variance,
}
