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
    count = sum(1 for path in report.rglob("*") if path.suffix in (".csv", ".json")) - 1  # report.json itself
    for folder in (report, report.parent):  # the report's own folder, or the study's
        assert lines(capsys, folder, code=0) == f"verified: {count} data files are what the folders give\n"


def test_a_report_that_moved_is_verified_with_its_folder_named(report: Path, tmp_path: Path, capsys: Printed) -> None:
    shutil.move(report, tmp_path / "kept")
    assert main(["verify", str(tmp_path / "kept" / "nowhere")]) == 2
    shutil.move(report.parent, tmp_path / "elsewhere")
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "kept")]) == 2
    assert "say where it is with --runs" in capsys.readouterr().err
    lines(capsys, tmp_path / "kept", "--runs", str(tmp_path / "elsewhere"), code=0)


def test_what_follows_from_changed_and_missing_runs_is_named(report: Path, capsys: Printed) -> None:
    path = report.parent / "runs/dapo-seed1/metrics.jsonl"
    first, *rest = path.read_text().splitlines(keepends=True)
    path.write_text(json.dumps(json.loads(first) | {"rollout/accuracy": 0.99}) + "\n" + "".join(rest))
    found = lines(capsys, report)
    assert "scores.csv: row 3, column auc: " in found
    assert "verdict.json: other content when made anew" in found
    assert "changed after" not in found
    shutil.move(report.parent / "runs/fipo-seed4", report.parent / "runs/fipo-seed9")
    found = lines(capsys, report)
    assert "column run: fipo-seed4 in the report, nothing made anew" in found


def test_every_changed_file_is_named(report: Path, capsys: Printed) -> None:
    path = report / "figures/outcomes_means.csv"
    path.write_text(path.read_text().replace("dapo,auc,0", "dapo,auc,9").replace("fipo,auc,0", "fipo,auc,8"))
    verdict = json.loads((report / "verdict.json").read_text())
    changed = json.dumps(verdict | {"headline": "All is well."}, indent=2, ensure_ascii=False)
    (report / "verdict.json").write_text(changed + "\n")
    (report / "figures/claims.png").write_bytes((report / "figures/outcomes.png").read_bytes())
    (report / "figures/claims.pdf").unlink()
    found = lines(capsys, report)
    assert "figures/outcomes_means.csv: row 2, column mean: 9" in found
    assert found.count("figures/outcomes_means.csv: row ") == 1
    assert "verdict.json: other content when made anew" in found
    assert "figures/claims.png: changed after the report was written" in found
    assert "figures/claims.pdf: missing from the report" in found


def test_a_change_that_the_manifest_hides_is_named_with_the_versions(report: Path, capsys: Printed) -> None:
    manifest = json.loads((report / "report.json").read_text())
    path = report / "figures/outcomes_means.csv"
    path.write_text(path.read_text().replace("dapo,auc,0", "dapo,auc,9"))
    outputs = manifest["outputs"] | {"figures/outcomes_means.csv": sha256_of(path)}
    versions = manifest["versions"] | {"numpy": "1.0"}
    folders.write_json(report / "report.json", manifest | {"outputs": outputs, "versions": versions})
    first, second = lines(capsys, report).splitlines()
    assert first.startswith("figures/outcomes_means.csv: row 2, column mean: 9")
    assert second.startswith("made with numpy 1.0, here is ")


def test_a_report_on_loose_runs_is_verified_and_not_overwritten_by_one_on_others(
    study: Path, tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [str(study.resolve() / "runs/dapo-seed0"), str(study.resolve() / "runs/dapo-seed1")]
    monkeypatch.chdir(tmp_path)
    assert main(["report", *runs]) == main(["figures", *runs, "--only", "outcomes"]) == 0
    for command in ("report", "figures"):
        assert main([command, runs[0]]) == 2
    assert "expected no report in report or one of these runs, got one of dapo-seed0" in capsys.readouterr().err
    lines(capsys, tmp_path / "report", code=0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"schema_version": 1}, "got no folders"),
        ({"outputs": {"../mine.txt": "0"}}, "got the output ../mine.txt"),
        ({"outputs": {"/etc/mine.txt": "0"}}, "got the output /etc/mine.txt"),
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
