"""How a run ends, and what it leaves."""

import signal
from pathlib import Path

import pytest

from harness.algorithm.metrics import Metrics
from harness.errors import HarnessError
from harness.loop import train
from tests.harness import contract, runs
from tests.harness.tiny import small_config

pytestmark = pytest.mark.train


def status_of(path: Path) -> tuple[str, str, str | None, int, int]:
    """What status.json holds, in the order of docs/run_folder.md."""
    status = runs.read_json(path / "status.json")
    return tuple(status[name] for name in ("state", "reason_code", "reason", "exit_code", "steps_done"))


def test_a_failing_run_says_so_in_its_status(model_folder: str, tmp_path: Path) -> None:
    config = small_config(
        model_folder, group_size=2, dynamic_sampling=True, max_sampling_rounds=1, unfilled="stop", max_response_tokens=2
    )
    with pytest.raises(HarnessError, match="step 0: expected 4 groups") as raised:
        runs.trained(config, tmp_path / "run")
    assert status_of(tmp_path / "run") == ("failed", "failed", f"HarnessError: {raised.value}", 1, 0)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_an_unforeseen_error_is_a_failure_too_and_signals_are_handled_as_before(
    model_folder: str, tmp_path: Path
) -> None:
    def trip(metrics: Metrics) -> None:
        if metrics["step"] == 1:
            raise ZeroDivisionError("on purpose")

    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ZeroDivisionError):
        train(small_config(model_folder, steps=3), tmp_path / "run", trip)
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert status_of(tmp_path / "run") == ("failed", "failed", "ZeroDivisionError: on purpose", 1, 2)


def test_a_batch_without_an_informative_group_is_recorded_and_changes_nothing(
    model_folder: str, tmp_path: Path
) -> None:
    # two tokens hold no end token: every answer is cut, hence wrong
    config = small_config(model_folder, dynamic_sampling=True, max_sampling_rounds=2, max_response_tokens=2)
    folder = runs.trained(config, tmp_path / "run")
    for line in runs.metrics(folder):
        assert set(line) == contract.metric_keys(fipo=False, beta=False)
        assert {value for key, value in line.items() if key.startswith("loss/")} == {None}
        assert line["rollout/unfilled_groups"] == 4
        assert line["rollout/truncated_share"] == 1.0
        assert (line["optimizer/grad_norm"], line["rollout/length_weighted_advantage"]) == (None, None)
        assert (line["ledger/updates"], line["ledger/trained_tokens"]) == (0, 0)
        assert line["ledger/discarded_tokens"] == line["ledger/generated_tokens"] > 0
    assert {row["trained"] for row in runs.rows(folder, "rollouts")} == {False}
    assert runs.weights(folder) == (Path(model_folder) / "model.safetensors").read_bytes()


def test_a_budget_ends_the_run_after_the_step_that_spends_it(model_folder: str, tmp_path: Path) -> None:
    unlimited = runs.trained(small_config(model_folder, steps=4), tmp_path / "unlimited")
    spent = [line["ledger/generated_tokens"] for line in runs.metrics(unlimited)]
    for budget, steps in ((spent[1], 2), (spent[1] + 1, 3), (spent[-1] + 1, 4)):
        config = small_config(model_folder, steps=4, token_budget=budget, final_evaluations=1, final_eval_samples=4)
        folder = runs.trained(config, tmp_path / str(budget))
        assert runs.timeless(folder) == runs.timeless(unlimited)[:steps]
        assert status_of(folder.path) == ("finished", "finished", None, 0, steps)
        # the last evaluation is made wherever the run ends, with the answers of a last one
        answers = runs.rows(folder, "evals")
        assert max(row["step"] for row in answers) == steps
        assert sum(row["step"] == steps for row in answers) == 8 * 4
