"""Measured beside published: numbers worked by hand, and every difference of protocol in words."""

import json
from dataclasses import replace
from itertools import combinations
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.errors import RecordsError
from analysis.records.benchmark import majority, pass_at_k
from analysis.records.published import protocol
from analysis.records.study import read
from analysis.report.published import published_section
from analysis.statistics.intervals import t_interval
from analysis.verdict.paper_protocol import setting_differences
from analysis.verdict.published import Compared, paper_comparison
from tests.analysis.agreement import agree
from tests.analysis.math_folders import FIPO_32B, config_with, write_math_run

# Four answers to each of two problems of AIME 2024 and one of AIME 2025.
# a1: 3 of 4 right, the majority right: avg .75, cons 1, pass@4 1, pass@2 1 - C(1,2)/C(4,2) = 1.
# a2: 1 of 4 right, "7" and "!8" twice and once: no; below "7" once, "!8" once, "!9" once, one without an answer:
#     a tie of three of which one is right: cons 1/3; avg .25; pass@4 1, pass@2 1 - C(3,2)/C(4,2) = .5.
# b1: none right: all 0.
LAST = {"a1": ["5", "5", "5", "!6"], "a2": ["7", "!8", None, "!9"], "b1": ["!1", "!1", "!1", "!1"]}
# All right on AIME 2024, as a peak in between.
PEAK = {"a1": ["5"] * 4, "a2": ["7"] * 4, "b1": ["!1", "!1", "!1", "2"]}
NONE = {"a1": ["!6"] * 4, "a2": ["!8"] * 4, "b1": ["!1"] * 4}
COURSE = {0: NONE, 2: PEAK, 4: LAST, 6: LAST, 8: LAST}


def compared(tmp_path: Path, seeds: int = 1, **changes: Any) -> dict[tuple[str, str, str], Compared]:
    """What a study of FIPO alone gives, by source, benchmark and metric."""
    runs = [write_math_run(tmp_path / f"fipo-seed{seed}", config_with(**changes), COURSE) for seed in range(seeds)]
    return {(one.source, one.benchmark, one.metric): one for one in paper_comparison(read(runs))}


def test_scores_of_one_benchmark_out_of_two(tmp_path: Path) -> None:
    found = compared(tmp_path)
    table = {key[1:]: one for key, one in found.items() if key[0].endswith("Table 1")}
    means = {key: one.final.mean for key, one in table.items()}
    assert agree(means["AIME 2024", "avg"], 0.5)
    assert agree(means["AIME 2024", "cons"], (1 + 1 / 3) / 2)
    assert agree(means["AIME 2024", "pass"], 1.0)
    assert [means["AIME 2025", name] for name in ("avg", "cons", "pass")] == [0, 0, 0]
    assert {one.k for one in table.values()} == {4}
    assert agree(table["AIME 2024", "avg"].published, 0.56)
    assert agree(table["AIME 2024", "avg"].difference, 0.06)
    # the other two depend on how many answers they are of: published of 32, here of 4
    assert isnan(table["AIME 2024", "cons"].difference)
    assert isnan(table["AIME 2024", "pass"].difference)


def test_more_answers_than_published_give_the_published_quantities(tmp_path: Path) -> None:
    # 33 answers, the last one right: avg 1/33; the first 32 are wrong; pass@32 1 - C(32,32)/C(33,32)
    run = write_math_run(tmp_path / "fipo-seed0", FIPO_32B, {2: {"a1": ["!1"] * 32 + ["2"]}})
    found = {one.metric: one for one in paper_comparison(read([run]))[1:]}
    assert {name: one.k for name, one in found.items()} == {"avg": 33, "cons": 32, "pass": 32}
    assert agree([found[name].final.mean for name in ("avg", "cons", "pass")], [1 / 33, 0.0, 32 / 33])
    assert agree(found["pass"].difference, 0.83 - 32 / 33)
    assert "answers to a problem: 33 here, 32 published" in found["avg"].differences


def test_the_peak_is_no_final_value(tmp_path: Path) -> None:
    one = compared(tmp_path)["FIPO paper, Figure 1", "AIME 2024", "avg"]
    assert agree([one.final.mean, one.peak, one.published], [0.5, 1.0, 0.58])
    assert one.differences[0] == (
        "the published value is a peak, chosen by the benchmark itself; the final value here is the mean of the last 3 "
        "evaluations, wherever the peak lay"
    )
    table = compared(tmp_path / "again")["FIPO paper, Table 1", "AIME 2024", "avg"]
    assert table.differences[0].startswith("of which checkpoint the published value is, is not stated")


def test_one_seed_has_no_interval_and_several_have(tmp_path: Path) -> None:
    one = compared(tmp_path)["FIPO paper, Table 1", "AIME 2024", "avg"]
    assert isnan(one.final.low)
    assert not any("one run in the paper" in words for words in one.differences)

    (tmp_path / "two").mkdir()
    runs = [
        write_math_run(tmp_path / "two" / f"fipo-seed{seed}", FIPO_32B, {0: NONE, 2: last})
        for seed, last in enumerate((LAST, PEAK))
    ]
    study = read(runs)
    assert "one seed: no interval" not in published_section(study)
    assert "one seed: no interval" in published_section(read(runs[:1]))
    two = next(one for one in paper_comparison(study) if one.benchmark == "AIME 2024")
    assert (two.final.n, two.final) == (2, t_interval([0.5, 1.0]))
    assert "one run in the paper, 2 seeds here" in two.differences


def test_a_run_that_diverged_counts_at_its_last_evaluation(tmp_path: Path) -> None:
    run = write_math_run(tmp_path / "fipo-seed0", FIPO_32B, {0: NONE, 2: PEAK, 4: LAST})
    status = {"state": "failed", "reason_code": "diverged", "reason": "nan", "exit_code": 1, "steps_done": 4}
    (run / "status.json").write_text(json.dumps(status))
    one = paper_comparison(read([run]))[0]
    assert agree(one.final.mean, 0.5)
    assert "1 run here diverged: counted at the last evaluation" in one.differences


def test_peaks_of_cons_are_among_evaluations_with_as_many_answers(tmp_path: Path) -> None:
    short = {prompt: given[:1] for prompt, given in PEAK.items()}
    run = write_math_run(tmp_path / "fipo-seed0", FIPO_32B, {0: NONE, 2: short, 4: LAST, 6: LAST, 8: LAST})
    peaks = {one.metric: one.peak for one in paper_comparison(read([run])) if one.benchmark == "AIME 2024"}
    assert agree([peaks["avg"], peaks["cons"]], [1.0, 2 / 3])


def test_arms_without_published_rows_and_other_models(tmp_path: Path) -> None:
    other = write_math_run(tmp_path / "mine-seed0", FIPO_32B, COURSE)
    study = read([other])
    assert paper_comparison(study) == []
    assert "though model and benchmark are the same: they are of " in published_section(study)
    smaller = write_math_run(tmp_path / "fipo-seed0", config_with(model="Qwen/Qwen2.5-0.5B"), COURSE)
    study = read([smaller])
    assert paper_comparison(study) == []
    words = "None of the published numbers can be set beside these runs (model Qwen/Qwen2.5-0.5B on aime24 and aime25)"
    assert words in published_section(study)
    tuned = write_math_run(tmp_path / "fipo-seed1", config_with(eval_split="tune"), COURSE)
    assert paper_comparison(read([tuned])) == []


def test_decay_rates_stand_beside_runs_of_the_same_rate_alone(tmp_path: Path) -> None:
    at_7b = {"model": "Qwen/Qwen2.5-Math-7B"}
    config = config_with(**at_7b, fipo_decay_rate=256.0)
    named = write_math_run(tmp_path / "fipo_256-seed0", config, COURSE)
    avg, other = paper_comparison(read([named]))
    assert (avg.source, avg.benchmark, avg.published) == ("FIPO paper, Table 6", "AIME 2024", 0.42)
    assert not any("decay rate" in words for words in avg.differences)
    assert agree(other.published, 0.16)
    plain = write_math_run(tmp_path / "fipo-seed0", config, COURSE)
    first = paper_comparison(read([plain]))[0]
    assert (first.source, first.benchmark) == ("FIPO paper, Table 4", "AIME 2024")
    assert "decay rate: 256 here, 32 published" in first.differences


PUBLISHED = protocol("FIPO paper, Table 1", "Qwen/Qwen2.5-32B", "fipo")


def test_the_published_settings_differ_in_nothing() -> None:
    assert setting_differences(FIPO_32B, PUBLISHED) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"overlong_buffer": None}, "overlong buffer, tokens: none here, 4096 published"),
        ({"steps": 100}, "training steps (the published ones are read off a figure): 100 here, 575 published"),
        ({"minibatches": 16}, "mini-batch, prompts: 32 here, 64 published"),
        ({"lr": 1e-5}, "learning rate: 1e-05 here, 1e-06 published"),
        ({"dynamic_sampling": False}, "dynamic sampling: off here, on published"),
        ({"fipo_clip_high_only": False}, "bounds of the influence weights: [0.8, 1.2] here, [1, 1.2] published"),
        ({"train_data": "files/mine.parquet"}, "training data: mine here, dapo-math-17k published"),
        ({"lora_rank": 16}, "LoRA adapters of rank 16 are trained here, all weights in the paper"),
    ],
)
def test_a_setting_that_differs_is_named_alone(changes: dict[str, Any], words: str) -> None:
    assert setting_differences(config_with(**changes), PUBLISHED) == [words]


def test_fewer_prompts_a_step_make_smaller_mini_batches() -> None:
    found = setting_differences(config_with(prompts_per_step=64), PUBLISHED)
    assert found == ["prompts a step: 64 here, 512 published", "mini-batch, prompts: 8 here, 64 published"]


def test_what_was_not_recorded_or_is_stated_nowhere_is_said() -> None:
    of_grpo = protocol("FIPO paper, Table 4", "Qwen/Qwen2.5-Math-7B", "grpo")
    assert "in which settings the published GRPO was trained is stated nowhere" in setting_differences({}, of_grpo)
    config = {**FIPO_32B, "evaluation": {"eval_temperature": 1.0}}
    assert setting_differences(config, PUBLISHED) == ["top-p of the answers: not recorded here, 0.7 published"]


def test_answers_and_problems_that_are_fewer_are_said(tmp_path: Path) -> None:
    one = compared(tmp_path)["FIPO paper, Table 1", "AIME 2024", "avg"]
    assert one.differences[1:] == ("answers to a problem: 4 here, 32 published", "problems: 2 here, 30 published")


def test_the_majority_is_the_harness_own() -> None:
    from harness.evaluation.scores import majority as theirs
    from harness.rollouts.held_out import Answer

    blank = Answer(0, "p", 0, "", None, False, "wrong", 1, False, False)
    for given in (LAST["a1"], LAST["a2"], ["!6", "5", "5", "!6"], [None, None, None, "!1"]):
        right = [answer is not None and not answer.startswith("!") for answer in given]
        answers = [
            replace(blank, answer=answer, correct=is_right) for answer, is_right in zip(given, right, strict=True)
        ]
        assert majority(given, right) == theirs(answers)


def test_a_damaged_environment_is_one_line(tmp_path: Path) -> None:
    run = write_math_run(tmp_path / "fipo-seed0", FIPO_32B, COURSE)
    environment = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps(environment | {"data": {"evaluation": {"aime24": {}}}}))
    with pytest.raises(RecordsError, match="expected the prompt_ids of each benchmark"):
        read([run])


@pytest.mark.parametrize(("n", "c", "k"), [(5, 2, 1), (5, 2, 2), (5, 0, 3), (5, 5, 5), (6, 4, 3), (4, 1, 4)])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer(n: int, c: int, k: int) -> None:
    subsets = list(combinations([1] * c + [0] * (n - c), k))
    assert agree(pass_at_k(n, c, k), np.mean([max(subset) for subset in subsets]))
