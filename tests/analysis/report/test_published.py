"""Published numbers in a whole report, and the paper's figures beside it."""

from pathlib import Path

import pandas as pd
import pytest

from analysis.__main__ import main
from tests.analysis.agreement import agree
from tests.analysis.math_folders import FIPO_32B, config_with, write_math_run
from tests.analysis.page_check import check_page
from tests.analysis.verdict.test_published import COURSE


def test_a_whole_report_sets_them_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dapo = config_with(loss_type="dapo", minibatches=16)
    runs = [
        write_math_run(tmp_path / f"{arm}-seed{seed}", config, COURSE)
        for arm, config in (("dapo", dapo), ("fipo", FIPO_32B))
        for seed in range(2)
    ]
    given = [str(run) for run in runs]
    assert main(["report", *given, "--output_dir", str(tmp_path / "report")]) == 0
    html = (tmp_path / "report" / "report.html").read_text()
    check_page(html)
    section = html.split('id="published"')[1].split("</section>")[0]
    first, second, third = (
        section.index(words) for words in ("Differences of protocol", "published numbers</", "paper_figure_NN")
    )
    assert first < second < third
    assert "<td>avg@32, here avg@4</td>" in section
    assert "none: cons@4 is another quantity" in section
    only = ["--only", "paper_figure_01", "--output_dir", str(tmp_path / "figures")]
    assert main(["figures", *given, *only]) == 0
    curves = pd.read_csv(tmp_path / "figures/figures/paper_figure_01_means.csv")
    ends = curves[(curves["arm"] == "fipo") & (curves["x"] == 8)].set_index("quantity")["mean"]
    assert agree([ends["evaluation/accuracy: aime24"], ends["evaluation/accuracy: aime25"]], [0.5, 0.0])
    capsys.readouterr()
