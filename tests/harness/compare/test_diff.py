import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.__main__ import main
from harness.errors import Stopped
from harness.loop import train
from tests.harness import runs
from tests.harness.backends.pairings import stop_after
from tests.harness.command_line import outcome
from tests.harness.tiny import small_config

Trained = Callable[..., Path]
Compared = Callable[[Path, Path], list[str]]


@pytest.fixture(scope="module")
def trained(model_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A small run of two steps by what differs in its settings, made once."""
    folder = tmp_path_factory.mktemp("runs")

    @cache
    def make(**changes: Any) -> Path:
        config = small_config(model_folder, **{"loss_type": "dapo", "temperature": 1.5} | changes)
        return runs.trained(config, folder / ("-".join(f"{k}-{v}" for k, v in changes.items()) or "base")).path

    return make


@pytest.fixture
def compared(capsys: pytest.CaptureFixture[str]) -> Compared:
    """What the command prints."""

    def compare(ours: Path, theirs: Path) -> list[str]:
        code, printed, errors = outcome(main, ["diff", ours, theirs], capsys)
        assert (code, errors) == (0, [])
        return printed

    return compare


@pytest.mark.train
@pytest.mark.parametrize(
    ("changes", "place", "setting"),
    [
        ({"seed": 1}, "step 0, prompts: ", "seed: 0 | 1"),
        ({"control": "random_reward"}, "step 0, rewards: ", "control: 'none' | 'random_reward'"),
        ({"advantage_scale": "none"}, "step 0, advantages: ", "advantage_scale: 'group' | 'none'"),
        ({"loss_type": "fipo"}, "step 0, influence weights: ", "loss_type: 'dapo' | 'fipo'"),
        ({"loss_type": "grpo"}, "step 0, updates: ", "loss_type: 'dapo' | 'grpo'"),
        ({"eval_temperature": 0.5}, "step 0, evaluation: ", "eval_temperature: 1 | 0.5"),
    ],
)
def test_what_differs_in_settings_and_first_in_the_records(
    trained: Trained, compared: Compared, changes: dict[str, Any], place: str, setting: str
) -> None:
    printed = compared(trained(), trained(**changes))
    (difference,) = [line for line in printed if line.startswith("first difference: ")]
    assert difference.startswith(f"first difference: {place}")
    assert f"  {setting}" in printed
    assert printed[-1] == difference


@pytest.mark.train
@pytest.mark.parametrize(
    ("changes", "quantity"), [({"control": "random_reward"}, "rewards"), ({"temperature": 1.3}, "tokens")]
)
def test_with_dynamic_sampling_the_cause_comes_before_the_number_of_rounds(
    trained: Trained, compared: Compared, changes: dict[str, Any], quantity: str
) -> None:
    ours, theirs = (trained(dynamic_sampling=True, **each) for each in ({}, changes))
    (difference,) = [line for line in compared(ours, theirs) if line.startswith("first difference: ")]
    assert difference.startswith(f"first difference: step 0, {quantity}: ")


@pytest.mark.train
def test_a_run_is_the_same_as_its_copy(trained: Trained, compared: Compared, tmp_path: Path) -> None:
    assert compared(trained(), Path(shutil.copytree(trained(), tmp_path / "copy"))) == [
        "settings: the same",
        "environment: the same",
        "the same over 2 steps: metrics, rollouts, evaluations, final weights",
    ]


@pytest.mark.train
def test_the_shorter_run_decides_how_far_is_compared(
    trained: Trained, compared: Compared, model_folder: str, tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        train(small_config(model_folder, loss_type="dapo", temperature=1.5), tmp_path / "run", stop_after(1))
    longer = trained(steps=3)  # which also answers fewer times before training
    for ours, theirs, steps in (
        (tmp_path / "run", trained(), 1),
        (trained(), tmp_path / "run", 1),
        (trained(), longer, 2),
    ):
        assert compared(ours, theirs)[-2:] == [
            "not compared, since not both runs have them: final weights",
            f"the same over {steps} steps: metrics, rollouts, evaluations",
        ]
