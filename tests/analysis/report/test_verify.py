import json
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from PIL import Image

from analysis.__main__ import main
from analysis.report.manifest import sha256_of
from tests.analysis import folders, search_folders
from tests.analysis.search_folders import SearchTruth

Printed = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study with its report, of which each test has a copy to damage."""
    study = folders.write_small_study(tmp_path_factory.mktemp("verify") / "study")
    with redirect_stdout(StringIO()):
        assert main(["report", str(study)]) == 0
    return study


@pytest.fixture
def report(reported: Path, tmp_path: Path) -> Path:
    return shutil.copytree(reported, tmp_path / "study") / "report"


def lines(capsys: Printed, report: Path, *more: str, code: int = 1) -> str:
    assert main(["verify", str(report), *more]) == code
    return capsys.readouterr().out


def test_what_nobody_touched_is_verified(report: Path, capsys: Printed) -> None:
    count = len(json.loads((report / "report.json").read_text())["outputs"])
    assert lines(capsys, report, code=0) == f"verified: {count} files are what the folders give\n"


def test_a_report_that_moved_is_verified_with_its_folder_named(report: Path, tmp_path: Path, capsys: Printed) -> None:
    shutil.move(report, tmp_path / "kept")
    assert main(["verify", str(tmp_path / "kept" / "nowhere")]) == 2
    shutil.move(report.parent, tmp_path / "elsewhere")
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "kept")]) == 2
    assert "say where it is with --runs" in capsys.readouterr().err
    lines(capsys, tmp_path / "kept", "--runs", str(tmp_path / "elsewhere"), code=0)


def test_changed_missing_and_new_runs_are_named_and_what_follows_from_them(report: Path, capsys: Printed) -> None:
    path = report.parent / "runs/dapo-seed1/metrics.jsonl"
    first, *rest = path.read_text().splitlines(keepends=True)
    path.write_text(json.dumps(json.loads(first) | {"rollout/accuracy": 0.99}) + "\n" + "".join(rest))
    found = lines(capsys, report)
    assert "runs/dapo-seed1/metrics.jsonl: changed since the report" in found
    assert "scores.csv: line 3: comparison,dapo," in found
    runs = report.parent / "runs"
    shutil.move(runs / "fipo-seed4", runs / "fipo-seed9")
    found = lines(capsys, report)
    assert "runs/fipo-seed4/status.json: missing from" in found
    assert "runs/fipo-seed9/status.json: not there when the report was made" in found


def test_every_changed_number_and_figure_is_named(report: Path, capsys: Printed) -> None:
    path = report / "figures/outcomes_means.csv"
    path.write_text(path.read_text().replace("dapo,auc,0", "dapo,auc,9").replace("fipo,auc,0", "fipo,auc,8"))
    verdict = json.loads((report / "verdict.json").read_text())
    changed = json.dumps(verdict | {"question": "Why?", "headline": "All is well."}, indent=2, ensure_ascii=False)
    (report / "verdict.json").write_text(changed + "\n")
    (report / "figures/claims.png").write_bytes((report / "figures/outcomes.png").read_bytes())
    (report / "figures/claims.pdf").unlink()
    found = lines(capsys, report)
    assert "figures/outcomes_means.csv: line 2: dapo,auc,9" in found
    assert found.count("figures/outcomes_means.csv: line ") == 2
    assert ': "question": "Why?", in the report, ' in found
    assert found.count("verdict.json: line ") == 2
    assert "figures/claims.png: changed after the report was written" in found
    assert "figures/claims.png: other bytes when made anew" in found
    assert "figures/claims.pdf: missing from the report" in found


def test_last_digits_may_differ_under_other_versions_and_more_may_not(report: Path, capsys: Printed) -> None:
    manifest = json.loads((report / "report.json").read_text())
    path = report / "figures/outcomes_means.csv"
    header, row, *rest = path.read_text().splitlines()
    cells = row.split(",")
    for factor, words in ((1 + 1e-9, ""), (1 + 1e-6, "figures/outcomes_means.csv: line 2: ")):
        near = ",".join([*cells[:2], f"{float(cells[2]) * factor:.15g}", *cells[3:]])
        path.write_text("\n".join([header, near, *rest, ""]))
        outputs = manifest["outputs"] | {"figures/outcomes_means.csv": sha256_of(path)}
        versions = manifest["versions"] | {"numpy": "1.0"}
        folders.write_json(report / "report.json", manifest | {"outputs": outputs, "versions": versions})
        found = lines(capsys, report, code=int(bool(words)))
        assert words in found
        assert "made with numpy 1.0, here is" in found


def test_a_report_with_options_of_other_code_is_one_line(report: Path, capsys: Printed) -> None:
    manifest = json.loads((report / "report.json").read_text())
    folders.write_json(report / "report.json", manifest | {"options": manifest["options"] | {"skip": True}})
    assert "cannot be made again: its option skip is not of this code" in lines(capsys, report)


def test_loose_runs_are_named(study: Path, tmp_path: Path, capsys: Printed) -> None:
    runs = [study / "runs/dapo-seed0", study / "runs/dapo-seed1"]
    assert main(["report", *map(str, runs), "--output_dir", str(tmp_path / "loose")]) == 0
    capsys.readouterr()
    with (runs[1] / "metrics.jsonl").open("a") as file:
        file.write("\n")
    assert lines(capsys, tmp_path / "loose").startswith("dapo-seed1/metrics.jsonl: changed since the report\n")
    assert main(["verify", str(tmp_path / "loose"), "--runs", str(runs[0])]) == 2
    assert capsys.readouterr().err.endswith("expected 2 folders with --runs, got 1: name each one\n")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"schema_version": 1}, "got no folders"),
        ({"outputs": {"../mine.txt": "0"}}, "got the output ../mine.txt"),
        ({"outputs": {"/etc/mine.txt": "0"}}, "got the output /etc/mine.txt"),
        ({"inputs": []}, "got folders without inputs"),
    ],
)
def test_a_report_json_that_no_report_wrote_is_one_line_and_removes_nothing(
    report: Path, content: dict[str, object], words: str, capsys: Printed
) -> None:
    kept = {} if "schema_version" in content else json.loads((report / "report.json").read_text())
    folders.write_json(report / "report.json", kept | content)
    (report.parent / "mine.txt").write_text("mine")
    for command in (["verify", str(report)], ["report", str(report.parent)]):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    assert (report.parent / "mine.txt").read_text() == "mine"


def test_figures_alone_may_get_a_report_and_those_of_others_may_not(study: Path, capsys: Printed) -> None:
    assert main(["figures", str(study), "--only", "outcomes"]) == 0
    assert main(["report", str(study)]) == 0
    foreign = study.parent / "paper"
    (foreign / "figures").mkdir(parents=True)
    (foreign / "figures/outcomes.png").write_bytes(b"mine")
    assert main(["report", str(study), "--output_dir", str(foreign)]) == 2
    assert "which holds figures" in capsys.readouterr().err
    assert (foreign / "figures/outcomes.png").read_bytes() == b"mine"


def test_a_figure_says_how_it_is_drawn_again(study: Path, tmp_path: Path) -> None:
    assert main(["report", str(study), "--axis", "generated_tokens"]) == 0
    page = (study / "report/report.html").read_text()
    command = f"python -m analysis figures {study} --axis generated_tokens --only learning_curves"
    assert command in page
    assert main([*command.split()[3:], "--output_dir", str(tmp_path / "again")]) == 0
    for kind in ("png", "pdf"):
        again = (tmp_path / f"again/figures/learning_curves.{kind}").read_bytes()
        assert again == (study / f"report/figures/learning_curves.{kind}").read_bytes()
    with Image.open(tmp_path / "again/figures/learning_curves.png") as image:
        assert image.info["Description"].count(command) == 1


def test_what_an_earlier_report_had_and_this_one_has_not_is_removed(report: Path, capsys: Printed) -> None:
    manifest = json.loads((report / "report.json").read_text())
    capsys.readouterr()
    for name in ("figures/old.png", "figures/mine.png"):
        (report / name).write_bytes(b"")
    folders.write_json(report / "report.json", manifest | {"outputs": manifest["outputs"] | {"figures/old.png": "0"}})
    assert main(["report", str(report.parent)]) == 0
    assert not (report / "figures/old.png").exists()
    assert (report / "figures/mine.png").exists()  # no report wrote it


def test_a_search_is_verified_and_its_folder_left_as_it_is(
    tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = search_folders.write_search(tmp_path / "s", SearchTruth(losses=("dapo",), trials=3))
    arms = (folders.ArmTruth("dapo"),)
    folders.write_study(folder / "winners", folders.smaller(folders.StudyTruth(arms), steps=2, prompts=4))
    monkeypatch.chdir(tmp_path)
    assert main(["report", "s"]) == 0  # spelled as nobody else will
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    capsys.readouterr()
    lines(capsys, folder / "report", code=0)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
