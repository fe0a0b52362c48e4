from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.__main__ import main
from analysis.errors import RecordsError
from analysis.statistics.checkpoints import compare_checkpoints, sign_flip_p
from tests.analysis.agreement import agree


def answers(run: str, step: int, correct: dict[str, list[int]]) -> pd.DataFrame:
    rows = [{"run": run, "step": step, "prompt_id": key, "correct": y} for key, ys in correct.items() for y in ys]
    return pd.DataFrame(rows)


def test_the_difference_is_over_prompts_that_count_the_same() -> None:
    a = answers("a", 4, {"p": [1, 1, 0, 0], "q": [1], "r": [1]})
    b = answers("b", 4, {"p": [1], "q": [0], "r": [0]})
    late = answers("a", 6, {"p": [0], "q": [0], "r": [0]})
    found = compare_checkpoints(pd.concat([a, b, late]), "a", "b")
    assert (found.step, found.prompts) == (4, 3)
    wanted = stats.ttest_1samp([-0.5, 1.0, 1.0], 0.0)
    assert agree([found.difference.difference, found.difference.p], [0.5, wanted.pvalue])
    assert "These two checkpoints alone" in found.sentence
    assert "says nothing about their losses" in found.sentence


def test_sign_flips_are_those_of_the_enumeration() -> None:
    differences = np.array([0.5, 1.0, -0.25, 0.75, 1.0, 0.5, -0.1, 0.3])
    sums = [abs(np.dot(signs, differences)) for signs in product([-1, 1], repeat=8)]
    exact = np.mean(np.array(sums) >= abs(differences.sum()) - 1e-12)
    assert abs(sign_flip_p(differences) - exact) < 0.005


def test_other_prompts_and_other_steps_are_refused() -> None:
    a, b = answers("a", 4, {"p": [1]}), answers("b", 4, {"q": [1]})
    with pytest.raises(RecordsError, match="expected the same prompts in a and b"):
        compare_checkpoints(pd.concat([a, b]), "a", "b")
    with pytest.raises(RecordsError, match="expected an evaluation after the same step"):
        compare_checkpoints(pd.concat([a, b.assign(step=2)]), "a", "b")


def test_the_command_prints_one_sentence(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(study / "runs/fipo-seed0"), str(study / "runs/dapo-seed1")]
    assert main(["checkpoints", *runs]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("These two checkpoints alone, after 2 steps, on 4 prompts: fipo-seed0 - dapo-seed1 ")
