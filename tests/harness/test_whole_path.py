"""Every shipped preset of a published experiment, from data to report, on small data of the same form."""

from pathlib import Path
from typing import Any

import pytest

from harness.loop import train
from harness.record import RunFolder
from harness.settings import PRESETS, flatten, preset_settings, resolve, tree_of
from tests.harness import math_material as material
from tests.harness import runs

PUBLISHED = sorted(
    str(path.relative_to(PRESETS).with_suffix(""))
    for folder in ("recipe", "controlled", "one-gpu", "one-node")
    for path in (PRESETS / folder).glob("*.toml")
    if "train_data" in preset_settings(str(path))
)
SMALL: dict[str, Any] = {
    "context_tokens": None,
    "dtype": "float32",
    "max_prompt_tokens": 400,
    "max_response_tokens": 12,
    "prompts_per_step": 16,
    "group_size": 4,
    "steps": 1,
    "eval_samples": 2,
    "final_eval_samples": 4,
    "lr": 1e-3,
    "warmup_steps": 0,
    "backend": "torch",
    "nproc": 1,
    "engine": "torch",
    "unfilled": "train",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where model, data and runs are."""
    return tmp_path_factory.mktemp("math")


@pytest.fixture(scope="module")
def small(folder: Path) -> dict[str, Any]:
    """Flags that make a published experiment a matter of seconds."""
    return SMALL | material.data_files(folder) | {"model": material.save_model(folder / "model")}


def run_of(preset: str, small: dict[str, Any], folder: Path) -> RunFolder:
    """A step of the preset at the small size."""
    has_buffer = resolve({}, preset).task.overlong_buffer
    own = {
        "overlong_buffer": 4 if has_buffer else None,
        "prompts_per_round": 32 if resolve({}, preset).rollout.dynamic_sampling else None,
    }
    return runs.trained(resolve(small | own, preset), folder / preset.replace("/", "-"))


@pytest.mark.train
@pytest.mark.parametrize("preset", PUBLISHED)
def test_a_preset_trains_a_step(preset: str, small: dict[str, Any], folder: Path) -> None:
    run = run_of(preset, small, folder)
    print(runs.metrics(run))
    print(runs.rows(run, "rollouts")[0])
    print(runs.rows(run, "evals")[0])
