from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from analysis.figures.canvas import grid
from analysis.figures.figure import Figure
from analysis.report.files import png, tables_of, with_palette
from analysis.report.tables import Table
from tests.analysis.agreement import agree


def test_tables_hold_ten_digits_of_every_number_and_all_words(tmp_path: Path) -> None:
    numbers = [1 / 3, -1e-12 / 7, 12345678.123456789, 0.0, float("nan"), float("inf")]
    words = ["plain", 'a "b", c', "x\ny", "", "-", "0"]
    frame = pd.DataFrame({"number": numbers, "word": words, "count": np.arange(6), "yes": [True, False] * 3})
    drawing, _ = grid(1, 1, 2.0)
    ((name, text),) = tables_of(Figure("figure", "", "", drawing, {"part": frame}, "")).items()
    assert name == "figure_part.csv"
    path = tmp_path / name
    path.write_text(text)
    again = pd.read_csv(path, keep_default_na=False, na_values={"number": [""]})
    assert agree(again["number"], numbers)
    assert list(again["word"]) == words
    assert list(again["count"]) == list(range(6))
    assert "0.3333333333," in path.read_text()


def test_a_figures_bytes_are_its_own() -> None:
    images = []
    for _ in range(2):
        drawing, (ax,) = grid(1, 1, 2.0)
        ax.plot([0, 1], [0, 1])
        images.append(png(drawing, "made from nothing"))
    assert images[0] == images[1]


def test_a_palette_keeps_frequent_colors_and_comes_near_to_rare_ones() -> None:
    few = np.zeros((40, 40, 3), dtype=np.uint8)
    few[:20] = (238, 238, 241)
    assert np.array_equal(np.asarray(with_palette(Image.fromarray(few)).convert("RGB")), few)
    many = np.random.default_rng(0).integers(0, 256, (60, 200, 3), dtype=np.uint8)
    many[:30] = (238, 238, 241)  # a band that must keep its grey among 6,000 other colours
    drawn = np.asarray(with_palette(Image.fromarray(many)).convert("RGB"))
    assert (drawn[:30] == many[:30]).all()
    assert np.abs(drawn.astype(int) - many).max() <= 64


def test_an_html_table_escapes_its_cells_and_is_nothing_without_rows() -> None:
    html = Table(["a", "b"], [["<script>", "1"]]).html
    assert '<td>&lt;script&gt;</td><td class="number">1</td>' in html
    assert Table(["a"], []).html == ""
