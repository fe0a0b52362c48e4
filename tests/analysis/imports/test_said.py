"""What an import cannot know, or had to leave out, is said; what can be scored all the same is."""

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.records.outcomes import outcomes
from analysis.report.build import write_report
from analysis.report.files import Asked
from analysis.verdict.sentences import cost, headline, statement, what_it_would_take
from tests.analysis.imports.test_import import Printed, found_in, imported, table

CURVES = "accuracy=val,training_accuracy=train"
HEAD = ("arm", "seed", "step", "val", "train")


def curves(arm: str, seed: int, lost_from: int = 99, lost: Any = "NaN") -> list[tuple[Any, ...]]:
    """A run of 40 steps with a line every 10, its numbers not finite from a step on."""
    numbers = [(0.5 + step / 1000, 0.2 + seed / 100 + step / 100) for step in (10, 20, 30, 40)]
    return [
        (arm, seed, step, *([lost] * 2 if step >= lost_from else two))
        for step, two in zip((10, 20, 30, 40), numbers, strict=True)
    ]


@pytest.mark.parametrize("lost", ["NaN", "inf", "-Infinity"])
def test_a_run_that_ends_not_finite_counts_at_its_last_evaluation(tmp_path: Path, lost: str) -> None:
    rows = [*curves("a", 0), *curves("a", 1), *curves("b", 0, 30, lost), *curves("b", 1)]
    study = imported(tmp_path / "s", table(tmp_path / "x.csv", [HEAD, *rows]), "--columns", CURVES)
    assert study.diverged == ["b-seed0"]
    scores = outcomes(study).set_index("run")
    assert scores.loc["b-seed0", ["final_accuracy", "collapsed"]].tolist() == [0.52, True]
    # of 40 steps 21 were logged in 2 lines, of 0.3 and 0.4; from there on the last value counts
    assert scores.loc["b-seed0", "auc"] == pytest.approx((21 * 0.35 + 20 * 0.4) / 41)
    assert scores["accuracy_at_equal_tokens"].isna().all()
    notes = found_in(tmp_path / "s").notes
    assert (
        "val is not finite at its last step, so the run counts as diverged, at its last evaluation (b-seed0)." in notes
    )
    assert "steps of the last evaluations" not in study.description["confounds"]


def test_a_number_that_is_not_finite_in_between_is_left_out(tmp_path: Path) -> None:
    rows = [*curves("a", 0)[:2], ("a", 0, 30, "nan", 0.5), *curves("a", 0)[3:]]
    study = imported(tmp_path / "s", table(tmp_path / "x.csv", [HEAD, *rows]), "--columns", CURVES)
    assert list(study.evals["step"]) == [10, 20, 40]
    assert study.diverged == []
    assert "val: numbers that are not finite are left out (a-seed0)." in found_in(tmp_path / "s").notes


def test_of_several_evaluation_sets_one_is_chosen(tmp_path: Path) -> None:
    history: list[dict[str, Any]] = []
    for step, (math, code) in enumerate([(0.25, 0.5), (0.375, 0.625)]):
        for name, value, length in (("math", math, 20.0), ("code", code, 50.0)):  # as TRL 1.16 logs two sets
            history.append({"step": step, f"eval_{name}_runtime": 1.0, "eval_rewards/right/mean": value})
            history[-1]["eval_completions/mean_length"] = length
    state = tmp_path / "dapo-seed0/trainer_state.json"
    state.parent.mkdir()
    state.write_text(json.dumps({"log_history": history, "max_steps": 9}))
    study = imported(tmp_path / "s", state.parent, "--columns", "accuracy=eval_code_rewards/right/mean")
    assert study.evals[["step", "correct", "response_tokens"]].to_numpy().tolist() == [[0, 0.5, 50], [1, 0.625, 50]]
    notes = found_in(tmp_path / "s").notes
    assert "The log ends before max_steps=9, why is not known; the run counts as it is (dapo-seed0)." in notes


def test_answers_without_seeds_are_compared_by_question(tmp_path: Path) -> None:
    for arm, wrong in (("a", 3), ("b", 2)):
        rows = [("question", "right"), *((f"q{n}", int(n % wrong > 0)) for n in range(6))]
        source = table(tmp_path / f"{arm}.csv", rows)
        imported(tmp_path / "s", source, "--arm", arm, "--columns", "accuracy=right")
    (row,) = found_in(tmp_path / "s").by_question
    assert (row.paired_by_seed, row.questions, row.only_arm, row.only_baseline) == (False, 6, 1, 2)
    assert row.mcnemar == 1.0
    assert "all runs, since none share a seed" in row.sentence


def test_by_question_is_over_the_evaluations_of_the_headline(tmp_path: Path) -> None:
    for arm, right in (("a", (0, 0, 1, 0, 1, 1)), ("b", (1, 0, 1, 1, 0, 1))):
        rows = [(step, f"q{n}", right[3 * step - 3 + n]) for step in (1, 2) for n in range(3)]
        source = table(tmp_path / "a.csv", [("step", "question", "right"), *rows])
        study = imported(tmp_path / "t", source, "--arm", arm, "--seed", 0, "--columns", "accuracy=right")
    found = found_in(tmp_path / "t")
    scores = outcomes(study).set_index("arm")["final_accuracy"]
    assert found.by_question[0].difference.difference == pytest.approx(scores["b"] - scores["a"])
    assert (found.by_question[0].only_arm, found.by_question[0].only_baseline) == (1, 1)  # at the last step alone


def test_arms_of_unlike_many_seeds_are_counted_both(tmp_path: Path) -> None:
    rows = [("arm", "acc"), *(("a", 0.1 * n) for n in range(5)), *(("b", 0.2 * n) for n in range(3))]
    imported(tmp_path / "s", table(tmp_path / "x.csv", rows), "--columns", "accuracy=acc")
    found = found_in(tmp_path / "s")
    assert headline(found).endswith("since no significance is claimed from 3 seeds.")
    assert "3 and 5 seeds, Welch's t" in statement(found.verdicts[0])


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("reward", (0.2, 0.3), "reward is a reward, which need not be the share of right answers"),
        ("reward", (-0.2, 1.3), "reward goes beyond 0 and 1, so it is no share of right answers; it stands for"),
        ("score", (20, 33), "score goes beyond 0 and 1, so it is no share of right answers (in percent? then"),
        ("accuracy_reward", (0.2, 0.3), None),
    ],
)
def test_what_stands_for_accuracy_is_named_and_doubted_once(
    tmp_path: Path, capsys: Printed, column: str, values: tuple[float, float], words: str | None
) -> None:
    rows = [("arm", "seed", "step", column), *((arm, seed, 1, values[seed % 2]) for arm in "ab" for seed in range(3))]
    imported(tmp_path / "s", table(tmp_path / "x.csv", rows), "--columns", f"training_accuracy={column}")
    notes = found_in(tmp_path / "s").notes
    assert f"Imported from csv, 6 runs; training accuracy is {column}." in notes
    doubts = [note for note in notes if column in note and not note.startswith("Imported")]
    assert [note.startswith(str(words)) for note in doubts] == [True] * (words is not None)
    assert all(note in capsys.readouterr().out and note.endswith("(a-seed0 and 5 more runs).") for note in doubts)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (
            {"seconds": 1800, "generated_tokens": 1e6},
            "10 runs, 10.0 million generated tokens, 5.00 hours by their logs",
        ),
        ({"seconds": 1800}, "10 runs, 5.00 hours by their logs"),
        ({}, "10 runs, whose cost is not known"),
    ],
)
def test_of_cost_and_of_what_is_shared_only_what_logs_tell_is_said(
    tmp_path: Path, known: dict[str, float], words: str
) -> None:
    rows = [(arm, n, 1, rate + n / 1000, *known.values()) for arm, rate in (("a", 0.4), ("b", 0.6)) for n in range(5)]
    source = table(tmp_path / "x.csv", [("arm", "seed", "step", "accuracy", *known), *rows])
    columns = [word for name in known for word in ("--columns", f"{name}={name}")]
    imported(tmp_path / "s", source, *columns)
    found = found_in(tmp_path / "s")
    assert cost(found) == words
    assert what_it_would_take(found) == "What it would take to know more: more seeds."


def test_mlflows_long_table_has_a_metric_a_line(tmp_path: Path) -> None:
    rows = [(f"{arm}-seed0", key, value, step) for arm in "ba" for step, value in ((0, 0.25), (5, 0.5)) for key in "xy"]
    source = table(tmp_path / "metrics.csv", [("run_id", "key", "value", "step"), *rows])
    study = imported(tmp_path / "s", source, "--columns", "accuracy=x")
    assert [arm.name for arm in study.arms] == ["b", "a"]
    assert study.evals[["arm", "step", "correct"]].to_numpy().tolist() == [
        [arm, step, value] for arm in "ab" for step, value in ((0, 0.25), (5, 0.5))
    ]


def test_one_arm_alone_has_a_report_that_compares_nothing(tmp_path: Path) -> None:
    imported(tmp_path / "s", table(tmp_path / "x.csv", [HEAD, *curves("a", 0), *curves("a", 1)]), "--columns", CURVES)
    said = write_report(Asked((tmp_path / "s",), "s", "steps"), tmp_path / "report")
    assert said[-2:] == [
        "There is nothing to compare: only one arm has runs.",
        "What it would take to know more: another arm.",
    ]
    page = (tmp_path / "report/report.html").read_text()
    assert "Runs of other trainers, imported; 2 of 2 runs count." in page
    assert "random numbers are the same" not in page
    assert "Accuracy against generated tokens" not in page
