"""A run that ends when its tokens are spent."""

from pathlib import Path

import pytest

from harness.run.record import RunFolder
from tests.harness import runs
from tests.harness.tiny import small_config

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def unlimited(model_folder: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return runs.trained(small_config(model_folder, steps=4), tmp_path_factory.mktemp("budget") / "unlimited")


def test_a_budget_ends_the_run_after_the_step_that_spends_it(
    unlimited: RunFolder, model_folder: str, tmp_path: Path
) -> None:
    spent = [line["ledger/generated_tokens"] for line in runs.metrics(unlimited)]
    for budget, steps in ((spent[1], 2), (spent[1] + 1, 3), (spent[-1] + 1, 4)):
        config = small_config(model_folder, steps=4, token_budget=budget, final_evaluations=1, final_eval_samples=4)
        folder = runs.trained(config, tmp_path / str(budget))
        assert runs.timeless(folder) == runs.timeless(unlimited)[:steps]
        assert runs.read_json(folder.path / "status.json") == {
            "state": "finished",
            "reason_code": "finished",
            "reason": None,
            "exit_code": 0,
            "steps_done": steps,
        }
        # the last evaluation is made wherever the run ends, with the answers of a last one
        answers = runs.rows(folder, "evals")
        assert max(row["step"] for row in answers) == steps
        assert sum(row["step"] == steps for row in answers) == 8 * 4
