"""The time that a run still takes, from the steps it has made."""

from harness.algorithm.metrics import PHASES, Metrics
from harness.cli.run_lines import time_left
from harness.config.resolve import resolve

# evaluated after 0, 4, 8 and 10 steps with 1, 1, 1 and 4 answers a prompt
CONFIG = resolve({"steps": 10, "eval_every": 4, "eval_samples": 1, "final_evaluations": 1, "final_eval_samples": 4})


def step(number: int, seconds: float, evaluation: float = 0.0) -> Metrics:
    spent = dict.fromkeys(PHASES, 0.0) | {"rollout": seconds, "evaluation": evaluation}
    return {"step": number} | {f"time/{name}_s": one for name, one in spent.items()}


def test_steps_count_as_the_last_three_and_evaluations_by_their_answers() -> None:
    assert time_left(CONFIG, [step(0, 60.0, evaluation=20.0)]) == 9 * 60 + (1 + 1 + 4) * 20  # the one before training
    made = [step(0, 100.0), step(1, 30.0), step(2, 30.0), step(3, 30.0, evaluation=20.0)]
    assert time_left(CONFIG, made) == 6 * 30 + (1 + 4) * 20
    assert time_left(CONFIG, [*made, step(4, 60.0)]) == 5 * 40 + (1 + 4) * 20  # the last evaluation was at step 4


def test_nothing_is_left_after_the_last_step() -> None:
    assert time_left(CONFIG, [step(9, 30.0, evaluation=80.0)]) == 0
