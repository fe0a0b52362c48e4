"""Which design finds an effect most cheaply, worked by hand."""

import json
import math
from pathlib import Path

import pytest
from scipy import stats

from harness import UsageError, resolve
from sweeps.power import cheapest, designs, detects, effect_lines, read_parts
from tests.sweeps.test_search_plan import SPEED

NOTHING = dict.fromkeys(("warm_start", "seed", "prompt", "seed_prompt", "sample"), 0.0)
CONFIG = resolve({}, "demo")


def test_what_a_design_detects() -> None:
    parts = NOTHING | {"seed": 4e-4, "prompt": 2e-3, "seed_prompt": 1e-2, "sample": 0.2}
    variance = 4e-4 / 10 + 2e-3 / 256 + (1e-2 + 0.2 / 4) / (10 * 256)
    quantiles = stats.t.ppf(0.975, 9) + stats.t.ppf(0.8, 9)
    assert detects(parts, 10, 256, 4) == pytest.approx(quantiles * math.sqrt(variance))


def test_more_answers_where_answers_are_what_varies() -> None:
    of_seeds = cheapest(0.02, NOTHING | {"seed": 4e-4}, CONFIG, SPEED)
    of_answers = cheapest(0.02, NOTHING | {"sample": 0.2}, CONFIG, SPEED)
    assert of_seeds is not None
    assert of_answers is not None
    assert (of_seeds.seeds, of_answers.seeds) == (10, 3)
    assert of_answers.prompts * of_answers.answers > 64


@pytest.mark.parametrize("effect", [0.01, 0.03])
def test_no_design_that_detects_it_is_cheaper(effect: float) -> None:
    parts = NOTHING | {"seed": 4e-4, "prompt": 1e-3, "seed_prompt": 1e-2, "sample": 0.2}
    best = cheapest(effect, parts, CONFIG, SPEED)
    assert best is not None
    assert best.detects <= effect
    assert all(one.detects > effect for one in designs(parts, CONFIG, SPEED) if one.seconds < best.seconds)


def test_what_seeds_cannot_remove_is_said() -> None:
    lines = effect_lines(1e-6, {"auc": NOTHING | {"seed": 1.0}, "difference": NOTHING | {"prompt": 1.0}}, CONFIG, SPEED)
    assert [line.endswith("is found by no design of up to 200 seeds") for line in lines] == [True, True, False]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "got no file"),
        ("[]", "expected difference with"),
        ('{"difference": {"seed": 1}}', "expected difference with"),
        (json.dumps({"difference": NOTHING, "auc": NOTHING | {"seed": "x"}}), "expected auc with"),
        ("{", "expected JSON"),
    ],
)
def test_a_file_without_parts_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "variance.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=said):
        read_parts(path)
