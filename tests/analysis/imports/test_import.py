"""Other trainers' logs -> run folders -> a verdict."""

import json
import math
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.records.outcomes import outcomes
from analysis.records.study import Study, read
from analysis.verdict.findings import Findings, findings

SAMPLES = Path(__file__).parent / "samples"
RATES = {"grpo": (0.50, 0.52, 0.51, 0.49, 0.53, 0.50), "dapo": (0.58, 0.61, 0.60, 0.57, 0.61, 0.58)}
Printed = pytest.CaptureFixture[str]


def imported(study: Path, *words: Any) -> Study:
    """The study after an import that succeeds."""
    assert main(["import", *map(str, words), "--study", str(study)]) == 0
    return read([study])


def refused(capsys: Printed, *words: Any) -> str:
    """The one line of an import that fails."""
    try:
        code: Any = main(["import", *map(str, words)])
    except SystemExit as ended:  # as argparse refuses
        code = ended.code
    assert code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    return printed.err


def found_in(study: Path) -> Findings:
    return findings(read([study]))


def table(path: Path, rows: Sequence[Sequence[Any]]) -> Path:
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def runs_csv(tmp_path: Path) -> Path:
    """Two arms of six seeds, evaluated after 0 and 10 steps."""
    rows = [
        (arm, seed, step, 0.3 if step == 0 else rate)
        for arm, rates in RATES.items()
        for seed, rate in enumerate(rates)
        for step in (0, 10)
    ]
    return table(tmp_path / "runs.csv", [("loss", "seed", "step", "val/acc"), *rows])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_csv_of_many_runs_is_decided_by_the_differences_seed_by_seed(
    runs_csv: Path, tmp_path: Path, encoding: str
) -> None:
    runs_csv.write_text(runs_csv.read_text(), encoding=encoding)
    study = imported(tmp_path / "s", runs_csv, "--columns", "accuracy=val/acc,arm=loss")
    scores = outcomes(study)
    assert scores.groupby("arm")["final_accuracy"].apply(tuple).to_dict() == RATES
    assert set(scores["start_accuracy"]) == {0.3}
    (row,) = found_in(tmp_path / "s").verdicts
    assert (row.decision, row.evidence.method, row.claim.metric) == ("supported", "paired", "final_accuracy")
    assert row.evidence.effect == pytest.approx(
        sum(a - b for a, b in zip(RATES["dapo"], RATES["grpo"], strict=True)) / 6
    )


def test_runs_without_seeds_are_not_paired(runs_csv: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(runs_csv).query("step == 10")[["loss", "val/acc"]]
    rows.to_csv(runs_csv, index=False)
    imported(tmp_path / "s", runs_csv, "--columns", "accuracy=val/acc,arm=loss")
    found = found_in(tmp_path / "s")
    assert [(row.evidence.method, row.evidence.n) for row in found.verdicts] == [("welch", (6, 6))]
    assert any("seeds of grpo and dapo are not known" in note for note in found.notes)


def test_a_papers_table_gives_binomial_intervals_and_no_verdict(tmp_path: Path) -> None:
    rows = [("method", "AIME24", "n"), ("DAPO", 50.0, 960), ("FIPO peak", 58.0, 960), ("mean of 32", 51.5, 30)]
    source = table(tmp_path / "table.csv", rows)
    imported(tmp_path / "s", source, "--columns", "accuracy=AIME24,arm=method,n=n", "--percent")
    found = found_in(tmp_path / "s")
    notes = " ".join(found.notes)
    assert "One run per arm: nothing can be said about the losses" in notes
    assert "mean of 32: 0.515 is no share of 30 answers, so no interval is given." in notes
    assert "DAPO: 0.500 of 960 answers, 95 % binomial interval [0.468, 0.532]" in notes  # Clopper and Pearson
    assert "'FIPO peak' is by its name a best of several" in notes
    assert [row.decision for row in found.verdicts] == ["undecided"] * 3


def test_trl_runs_are_read_as_trl_wrote_them(tmp_path: Path) -> None:
    sources = sorted((SAMPLES / "trl").iterdir())
    study = imported(tmp_path / "s", *sources, "--config", "args.yaml")
    assert [arm.seeds for arm in study.arms] == [(0, 1, 2), (0, 1, 2)]
    state = SAMPLES / "trl/dapo-seed2/checkpoint-3/trainer_state.json"
    history = json.loads(state.read_text())["log_history"]
    key = "rewards/accuracy_reward/mean"
    of_run = study.metrics[study.metrics["run"] == "dapo-seed2"]
    assert list(of_run["rollout/accuracy"]) == [row[key] for row in history if key in row]
    assert list(of_run["step"]) == [0, 1, 2]
    evals = study.evals[study.evals["run"] == "dapo-seed2"]
    wanted = [(row["step"], row[f"eval_{key}"]) for row in history if f"eval_{key}" in row]
    assert list(zip(evals["step"], evals["correct"], strict=True)) == wanted
    about = json.loads((study.folders["dapo-seed2"] / "environment.json").read_text())["imported"]
    assert list(about["sha256"]) == [str(state)]
    assert study.description["confounds"] == []
    assert [row["field"] for row in study.description["differences"]] == ["loss_type"]


def test_verl_and_its_config_and_answers(tmp_path: Path) -> None:
    for arm in ("dapo", "fipo"):
        log = SAMPLES / f"verl/{arm}-seed0.log"
        study = imported(tmp_path / "s", log, "--answers", SAMPLES / f"verl/{arm}-seed0-val")
    assert study.description["confounds"] == ["actor_rollout_ref.actor.optim.lr"]
    allowed = [row["field"] for row in study.description["differences"] if row["allowed"]]
    assert allowed == ["actor_rollout_ref.actor.policy_loss.loss_mode"]
    rows = study.metrics[study.metrics["run"] == "fipo-seed0"]
    assert list(rows["rollout/response_tokens_mean"]) == [310.5, 320.5, 330.5]
    assert list(rows["time/elapsed_s"]) == [61.25, 122.5, 183.75]
    answers = [json.loads(line) for line in (SAMPLES / "verl/fipo-seed0-val/3.jsonl").read_text().splitlines()]
    evals = study.evals[(study.evals["run"] == "fipo-seed0") & (study.evals["step"] == 3)]
    assert list(evals["correct"]) == [row["acc"] for row in answers]
    assert found_in(tmp_path / "s").by_question[0].questions == 10


def test_swift(tmp_path: Path) -> None:
    study = imported(
        tmp_path / "s", *sorted((SAMPLES / "swift").iterdir()), "--columns", "training_tokens=completions/mean_length"
    )
    assert list(study.evals["correct"]) == [0.5, 0.5]
    assert study.metrics.groupby("arm")["step"].apply(list).to_dict() == {"grpo": [0, 1, 2], "fipo": [0, 1, 2]}
    assert [row["field"] for row in study.description["differences"]] == ["loss_type"]


def test_lm_evals_answers_are_paired_by_question(tmp_path: Path) -> None:
    imported(tmp_path / "s", *sorted((SAMPLES / "lm_eval").iterdir()))
    found = found_in(tmp_path / "s")
    (row,) = found.by_question
    files = [next((SAMPLES / f"lm_eval/{arm}-seed1").glob("samples*")) for arm in ("dapo", "fipo")]
    dapo, fipo = ([json.loads(line)["acc"] for line in file.read_text().splitlines()] for file in files)
    differences = [b - a for a, b in zip(dapo, fipo, strict=True)]
    assert (row.only_arm, row.only_baseline) == (differences.count(1.0), differences.count(-1.0))
    assert row.difference.difference == pytest.approx(sum(differences) / 12)
    assert (
        f"{row.only_arm} answers right in {row.names[0]} only, {row.only_baseline} in {row.names[1]} only"
        in row.sentence
    )
    assert "not for others of other seeds" in found.as_json()["by_question"][0]["sentence"]
    assert [verdict.decision for verdict in found.verdicts] == ["undecided"]


def test_of_lm_evals_results_a_filter_is_chosen(tmp_path: Path) -> None:
    results = tmp_path / "results_1.json"
    results.write_text('{"results": {"sums": {"alias": "sums", "exact_match,strict": 0.25, "exact_match,loose": 0.5}}}')
    study = imported(tmp_path / "s", results, "--arm", "a", "--seed", 0, "--filter", "loose")
    assert list(study.evals["correct"]) == [0.5]


def test_other_questions_in_one_arm_are_a_confound(tmp_path: Path) -> None:
    for arm, first in (("a", 0), ("b", 1)):
        rows = [("question", "right"), *((f"q{n}", n % 2) for n in range(first, first + 4))]
        source = table(tmp_path / f"{arm}.csv", rows)
        study = imported(tmp_path / "s", source, "--arm", arm, "--seed", 0, "--columns", "accuracy=right")
    assert study.description["confounds"] == ["evaluation questions (sha256)"]
    assert found_in(tmp_path / "s").by_question[0].questions == 3


def test_a_chart_of_wandb(tmp_path: Path) -> None:
    names = [f"{run} - val/acc{end}" for run in ("dapo-seed0", "grpo_s1") for end in ("", "__MIN", "__MAX")]
    source = table(tmp_path / "chart.csv", [("Step", *names), (1, 0.1, 0, 1, "", "", ""), (2, 0.2, 0, 1, 0.3, 0, 1)])
    study = imported(tmp_path / "s", source, "--columns", "accuracy=val/acc")
    rows = study.evals[["arm", "seed", "step", "correct"]].to_numpy().tolist()
    assert sorted(rows) == [["dapo", 0, 1, 0.1], ["dapo", 0, 2, 0.2], ["grpo", 1, 2, 0.3]]


@pytest.mark.filterwarnings("ignore")
def test_mlflow_is_read_from_a_copy(tmp_path: Path, capsys: Printed) -> None:
    from mlflow import MlflowClient

    store = tmp_path / "ml.db"
    client = MlflowClient(f"sqlite:///{store}")
    run = client.create_run(client.create_experiment("x"), run_name="mine")
    client.log_param(run.info.run_id, "seed", 3)
    client.log_param(run.info.run_id, "lr", 1e-6)
    for step, value in ((0, 0.25), (5, 0.5)):
        client.log_metric(run.info.run_id, "val/acc", value, step=step)
    study = imported(tmp_path / "s", store, "--arm", "dapo")
    assert study.evals[["seed", "step", "correct"]].to_numpy().tolist() == [[3, 0, 0.25], [3, 5, 0.5]]
    assert study.configs["dapo-seed3"]["source"]["params.lr"] == "1e-06"
    other = tmp_path / "other.db"  # in which MLflow would make its tables
    with closing(sqlite3.connect(other)) as own:
        own.execute("CREATE TABLE mine (x)")
    before = other.read_bytes()
    capsys.readouterr()
    assert "expected logged rows" in refused(capsys, other, "--arm", "a", "--study", tmp_path / "t")
    assert other.read_bytes() == before


def test_after_a_resume_the_later_value_counts_and_it_is_said(tmp_path: Path, capsys: Printed) -> None:
    source = table(tmp_path / "a.csv", [("step", "acc"), (1, 0.1), (2, 0.2), (3, 0.3), (2, 0.4), (3, 0.5)])
    study = imported(tmp_path / "s", source, "--arm", "a", "--seed", 0, "--columns", "accuracy=acc")
    assert list(study.evals["correct"]) == [0.1, 0.4, 0.5]
    assert "acc: steps logged twice, as after a resume; the later value counts (a-seed0)." in capsys.readouterr().out


def test_nothing_that_is_there_is_written_over(runs_csv: Path, tmp_path: Path, capsys: Printed, study: Path) -> None:
    given = [runs_csv, "--columns", "accuracy=val/acc,arm=loss"]
    own = tmp_path / "s"
    imported(own, *given)
    capsys.readouterr()
    for folder, words in ((own, "expected no run of grpo with seed 0"), (study, "expected a study of imported runs")):
        before = contents(folder)
        assert words in refused(capsys, *given, "--study", folder)
        assert contents(folder) == before


def test_a_claim_that_comes_with_the_runs_is_decided_and_said_to_be_late(runs_csv: Path, tmp_path: Path) -> None:
    claims = tmp_path / "claims.toml"
    fields = {"id": "a", "text": "DAPO ends higher", "source": "us", "role": "primary", "kind": "superior"}
    fields |= {"arm": "dapo", "baseline": "grpo", "metric": "final_accuracy"}
    claims.write_text("[[claim]]\nmargin = 0.2\n" + "".join(f'{key} = "{value}"\n' for key, value in fields.items()))
    imported(tmp_path / "s", runs_csv, "--columns", "accuracy=val/acc,arm=loss", "--claims", claims)
    found = found_in(tmp_path / "s")
    assert [(row.key, row.decision) for row in found.verdicts] == [("P1", "contradicted")]
    assert any("nothing shows that they were fixed before the runs" in note for note in found.notes)
    assert found.verdicts[0].evidence.seeds_needed is not None
    assert not math.isnan(float(found.verdicts[0].evidence.smallest_detectable or math.nan))


def test_the_pages_five_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    page = (Path(__file__).parents[3] / "docs/your-logs.md").read_text(encoding="utf-8")
    commands = [line.split()[4:] for line in page.splitlines() if line.startswith("    $ python -m analysis")]
    shutil.copytree(SAMPLES / "trl", tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    assert [words[0] for words in commands] == ["import", "report"]
    for words in commands:
        globbed = [str(path) for word in words for path in sorted(Path().glob(word)) or [Path(word)]]
        assert main(globbed) == 0
    assert "share one starting model is not known" in Path("runs/mine/report/report.html").read_text()
    shown = [line for line in page.splitlines() if line.startswith("    Undecided")]
    assert shown[0].strip() in capsys.readouterr().out
    assert json.loads(Path("runs/mine/report/verdict.json").read_text())["claims"][0]["decision"] == "undecided"


def test_logs_that_are_alike_are_not_said_to_be_the_same_runs(tmp_path: Path) -> None:
    rows = [(arm, seed, step, 0.4, 0.5) for arm in ("a", "b") for seed in range(5) for step in (1, 2)]
    source = table(tmp_path / "alike.csv", [("arm", "seed", "step", "train", "val"), *rows])
    imported(tmp_path / "s", source, "--columns", "training_accuracy=train,accuracy=val")
    assert not any(row.identical for row in found_in(tmp_path / "s").verdicts)
