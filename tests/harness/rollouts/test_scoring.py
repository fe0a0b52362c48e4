import numpy as np

from harness.config.schema import TaskSettings
from harness.rollouts.scoring import overlong_penalty, score
from tests.harness.agreement import agree
from tests.losses.golden import GOLDEN

COIN = TaskSettings(control="random_reward")


def test_overlong_penalty_is_the_authors_under_their_32b_settings() -> None:
    with np.load(GOLDEN / "overlong_32b.npz") as arrays:
        buffer, factor, limit = (arrays[f"cfg__{name}"].item() for name in ("buffer", "factor", "max_len"))
        lengths, expected = arrays["in__length"].tolist(), arrays["official__penalty"]
    settings = TaskSettings(overlong_buffer=int(buffer), overlong_factor=float(factor))
    assert expected.min() < -0.5
    assert agree([overlong_penalty(length, int(limit), settings) for length in lengths], expected, "float64")


def test_overlong_penalty_by_hand() -> None:
    # limit 20, buffer 8: free up to 12 tokens, then an eighth of the factor per token
    settings = TaskSettings(overlong_buffer=8, overlong_factor=0.5)
    assert [overlong_penalty(tokens, 20, settings) for tokens in (1, 12, 14, 16, 20)] == [0, 0, -0.125, -0.25, -0.5]
    assert overlong_penalty(20, 20, TaskSettings()) == 0.0


def test_random_reward_is_a_keyed_coin_whatever_the_answer() -> None:
    keys = [(0, step, "prompt", sample) for step in range(100) for sample in range(20)]
    tosses = [score(True, COIN, *key) for key in keys]
    assert tosses == [score(False, COIN, *key) for key in keys]
    assert set(tosses) == {-1.0, 1.0}
    assert abs(np.mean(tosses)) < 4 / np.sqrt(len(keys))
    assert tosses != [score(True, COIN, 1, *key[1:]) for key in keys]
