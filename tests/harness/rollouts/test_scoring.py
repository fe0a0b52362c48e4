import numpy as np
import pytest

from harness.config.schema import TaskSettings
from harness.rollouts.scoring import overlong_penalty, score
from tests.harness.agreement import agree
from tests.losses.golden import GOLDEN
from tests.losses.mutation import mutant

COIN = TaskSettings(control="random_reward")


@pytest.fixture(scope="module")
def official() -> dict[str, np.ndarray]:
    """The authors' penalties under their 32B settings."""
    with np.load(GOLDEN / "overlong_32b.npz") as arrays:
        return dict(arrays)


def penalties(official: dict[str, np.ndarray], function=overlong_penalty) -> list[float]:
    settings = TaskSettings(
        overlong_buffer=int(official["cfg__buffer"]), overlong_factor=float(official["cfg__factor"])
    )
    limit = int(official["cfg__max_len"])
    return [function(int(length), limit, settings) for length in official["in__length"]]


def test_overlong_penalty_is_the_authors(official: dict[str, np.ndarray]) -> None:
    assert official["official__penalty"].min() < -0.5
    assert agree(penalties(official), official["official__penalty"], "float64")


@pytest.mark.parametrize(
    ("old", "new"), [("-over /", "over /"), ("max_response_tokens - ", "max_response_tokens + "), ("min(", "max(")]
)
def test_comparison_catches_a_wrong_sign(official: dict[str, np.ndarray], old: str, new: str) -> None:
    assert not agree(penalties(official, mutant(overlong_penalty, old, new)), official["official__penalty"], "float64")


def test_overlong_penalty_by_hand() -> None:
    # limit 20, buffer 8: free up to 12 tokens, then an eighth of the factor per token
    settings = TaskSettings(overlong_buffer=8, overlong_factor=0.5)
    assert [overlong_penalty(tokens, 20, settings) for tokens in (1, 12, 14, 16, 20)] == [0, 0, -0.125, -0.25, -0.5]
    assert overlong_penalty(20, 20, TaskSettings()) == 0.0


@pytest.mark.parametrize("control", ["none", "blame"])
def test_a_right_answer_is_paid_one_and_a_wrong_one_costs_one(control: str) -> None:
    assert score(True, TaskSettings(control=control), 0, 0, "prompt", 0) == 1.0
    assert score(False, TaskSettings(control=control), 0, 0, "prompt", 0) == -1.0


def test_random_reward_is_a_keyed_coin_whatever_the_answer() -> None:
    keys = [(0, step, "prompt", sample) for step in range(100) for sample in range(20)]
    tosses = [score(True, COIN, *key) for key in keys]
    assert tosses == [score(False, COIN, *key) for key in keys]
    assert set(tosses) == {-1.0, 1.0}
    assert abs(np.mean(tosses)) < 4 / np.sqrt(len(keys))
    assert tosses != [score(True, COIN, 1, *key[1:]) for key in keys]
