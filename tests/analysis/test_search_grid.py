"""Designed grids: what has no place on the scale, the line that was tested, published values apart, and contours."""

import re
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.figures.chart import Chart
from analysis.figures.search_charts import SEARCH_CHARTS, search_charts
from analysis.records.search import read_search
from analysis.verdict.search_findings import search_findings
from analysis.verdict.search_grid import on_scale
from analysis.verdict.search_trend import trend, trend_line
from tests.analysis import search_folders
from tests.analysis.agreement import agree
from tests.analysis.search_folders import PAIR, SearchTruth, grid_truth

THRESHOLDS = {"fipo_safety_threshold": {"kind": "choice", "values": [1.5, 3.0, 12.0, "none"]}}
RANGES = {"fipo_clip_range": {"kind": "choice", "values": [0.0, 0.1, 0.2, 0.4]}}


def rising(given: dict[str, Any]) -> float:
    (value,) = given.values()
    return 0.5 if value in ("none", 0.0) else 0.8 + 0.01 * log2(value)


def charts(folder: Path, truth: SearchTruth, *names: str) -> dict[str, Chart]:
    found = search_findings(read_search(search_folders.write_search(folder, truth)))
    return {chart.name: chart for chart in search_charts(found, names)}


def test_what_switches_a_parameter_off_has_no_place_on_its_scale() -> None:
    words = on_scale("fipo_safety_threshold", pd.Series(["1.5", "none", "3.0"]))
    assert agree(words.to_numpy(float)[[0, 2]], [1.5, 3.0])
    assert np.isnan(words[1])
    assert on_scale("fipo_clip_range", pd.Series([0.0, 0.2])).isna().tolist() == [True, False]
    assert on_scale("beta", pd.Series([0.0, 0.2])).tolist() == [0.0, 0.2]


@pytest.mark.parametrize(
    ("space", "off", "values"), [(THRESHOLDS, "none", [1.5, 3, 12]), (RANGES, "0", [0.1, 0.2, 0.4])]
)
def test_a_category_stands_at_the_side_and_not_in_the_trend(
    tmp_path: Path, space: dict[str, Any], off: str, values: list[float]
) -> None:
    truth = grid_truth(spaces={"fipo": space}, trials=4, noise=1e-6, truth=rising)
    item = trend(read_search(search_folders.write_search(tmp_path, truth)), "fipo")
    assert item is not None
    assert (item.values, item.off_scale, item.unit) == (values, [off], "doubling")
    assert abs(item.slope - 0.01) < 1e-4  # 0.5 at the side would bend it far away
    assert f"not in the trend: the setting {off}." in item.sentence
    chart = charts(tmp_path, truth, "designed_grid")["designed_grid_fipo"]
    main, side = chart.figure.axes
    assert [label.get_text() for label in side.get_xticklabels()] == [off]
    assert main.get_xscale() == "log"
    assert main.get_ylim() == side.get_ylim()
    assert f"{off}: 0.500" in chart.alt


def test_the_line_drawn_is_the_mean_of_the_tested_ones(tmp_path: Path) -> None:
    search = read_search(search_folders.write_search(tmp_path, grid_truth()))
    item = trend(search, "fipo")
    assert item is not None
    rows = search.trials
    x = np.repeat([log2(value) for value in (2, 8, 32, 128, 512)], 5)
    slope, start = np.polyfit(x, np.concatenate(rows["values"].to_list()), 1)
    line = trend_line(search, item)
    assert agree(line["y"].to_numpy(float), [start + slope * 1, start + slope * 9])
    assert line["x"].tolist() == [2, 512]


def test_published_values_have_an_axis_of_their_own(tmp_path: Path) -> None:
    chart = charts(tmp_path, grid_truth(), "designed_grid")["designed_grid_fipo"]
    main, published = chart.figure.axes
    drawn = {str(line.get_label()): line for line in published.lines}
    assert agree(drawn["AIME 2024"].get_ydata(), [0.40, 0.40, 0.39, 0.42])
    assert agree(drawn["AIME 2025"].get_ydata(), [0.17, 0.19, 0.21, 0.16])
    assert all(line.get_linestyle() == "None" and line.get_markerfacecolor() == "white" for line in published.lines)
    assert main.get_ylim()[0] > 0.5  # none of them reaches the measured panel
    assert "highest value is at 256 on AIME 2024, 128 on AIME 2025" in chart.caption
    assert "the paper's setting: 32 (FIPO paper, Table 2)" in chart.caption
    assert [text.get_text() for text in main.texts] == ["the paper's setting"]
    assert "slope" in chart.figure.legends[0].get_texts()[2].get_text()


def test_a_grid_over_one_parameter_is_drawn_once_and_first(tmp_path: Path) -> None:
    names = list(charts(tmp_path, grid_truth()))
    assert names[0] == "designed_grid_fipo"
    assert not [name for name in names if name.startswith("slices")]


def test_a_designed_grid_of_two_parameters_has_its_contour(tmp_path: Path) -> None:
    truth = grid_truth(spaces=PAIR, trials=9, seeds=3, truth=None)
    chart = charts(tmp_path, truth, "contour")["contour_fipo"]
    trials, surface = chart.tables["trials"], chart.tables["surface"]
    assert len(trials) == 9
    assert (trials["x"].min(), trials["x"].max()) == (0.1, 0.4)
    assert surface["x"].between(0.0999, 0.4001).all()
    assert surface["y"].between(1.499, 10.01).all()
    assert chart.caption.startswith("9 trials with a value, the mean over 3 tuning seeds")
    assert "other parameters" not in chart.caption
    assert re.search(r"highest, 0\.86\d, at fipo_clip_range 0\.2\d* and", chart.alt)
    points = [item.get_offsets() for item in chart.figure.axes[0].collections if len(item.get_offsets()) == 9]
    assert len(points) == 1


def test_no_surface_is_drawn_where_a_corner_of_the_grid_has_no_value(tmp_path: Path) -> None:
    lost = {("fipo", 8): ("infeasible", "diverged")}
    truth = grid_truth(spaces=PAIR, trials=9, seeds=3, truth=None, ends=lost)
    chart = charts(tmp_path, truth, "contour")["contour_fipo"]
    surface = chart.tables["surface"]
    assert not ((surface["x"] > 0.3) & (surface["y"] > 6)).any()
    assert chart.tables["trials"]["outcome"].tolist().count("infeasible") == 1
    assert "1 infeasible" in chart.alt


def test_a_contour_leaves_out_what_is_switched_off_and_says_so(tmp_path: Path) -> None:
    both = RANGES | THRESHOLDS
    truth = grid_truth(spaces={"fipo": both}, trials=16, seeds=2, truth=lambda _: 0.8)
    chart = charts(tmp_path, truth, "contour")["contour_fipo"]
    assert len(chart.tables["trials"]) == 9
    assert "Not drawn: 7 trials, since one of the two was switched off" in chart.caption


def test_a_search_that_is_no_grid_has_its_contour_too(tmp_path: Path) -> None:
    chart = charts(tmp_path, SearchTruth(trials=20), "contour")["contour_fipo"]
    assert chart.caption.startswith("20 trials with a value")
    assert "The other parameters vary too." in chart.caption


def test_every_chart_of_a_search_is_told_in_words_with_numbers(tmp_path: Path) -> None:
    ends: dict[tuple[str, int], tuple[str, str | None]] = {("fipo", 3): ("infeasible", "x"), ("dapo", 2): ("over", "")}
    drawn = charts(tmp_path / "a", SearchTruth(losses=("dapo", "fipo"), trials=12, ends=ends))
    drawn |= charts(tmp_path / "b", grid_truth(), "designed_grid")
    kinds = {name for name in SEARCH_CHARTS if any(chart.startswith(name) for chart in drawn)}
    assert kinds == set(SEARCH_CHARTS)
    for chart in drawn.values():
        assert re.search(r"\d\.\d\d", chart.alt), chart.name
        assert "nan" not in chart.alt
        assert "n/a" not in chart.alt
    assert "FIPO: 12 trials, values 0." in drawn["history"].alt
    assert "1 infeasible" in drawn["history"].alt


def test_captions_of_a_grid_do_not_speak_of_a_search_that_looks_around(tmp_path: Path) -> None:
    drawn = charts(tmp_path, grid_truth(spaces=PAIR, trials=9, seeds=2, truth=None))
    assert "each combination once" in drawn["slices_fipo"].caption
    assert "a search looks" not in drawn["slices_fipo"].caption
    assert "a grid, fixed beforehand" in drawn["expected_maximum"].caption
    assert "another such search" not in drawn["expected_maximum"].caption
