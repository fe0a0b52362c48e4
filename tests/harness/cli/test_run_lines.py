"""What a run says of itself: what it is, each step in one line, the time that it still takes."""

from pathlib import Path

from harness.algorithm.metrics import PHASES, Metrics
from harness.cli.run_lines import start_lines, step_line, time_left
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


def test_an_evaluation_that_a_spent_budget_brings_forward_tells_nothing_of_the_others() -> None:
    made = [step(3, 30.0, evaluation=20.0), step(4, 30.0, evaluation=80.0)]
    assert time_left(CONFIG, made) == 5 * 30 + (1 + 4) * 20
    assert time_left(CONFIG, made[1:]) == 5 * 30


def test_nothing_is_left_after_the_last_step() -> None:
    assert time_left(CONFIG, [step(9, 30.0, evaluation=80.0)]) == 0


MADE: Metrics = {
    "step": 8,
    "rollout/reward_mean": -0.0634,
    "rollout/accuracy": 0.25,
    "rollout/response_tokens_mean": 1234.56,
    "rollout/entropy": 0.5,
    "loss/kl_to_old": 0.00123,
    "loss/clip_fraction_low": 0.01,
    "loss/clip_fraction_high": 0.002,
}


def test_a_step_is_one_line_of_what_was_recorded() -> None:
    assert step_line(MADE, 200) == (
        "step   9/200  reward -0.063  accuracy 0.250  tokens 1234.6  KL  0.0012  clipped  1.2%  entropy 0.500"
    )


def test_steps_stand_in_columns_also_where_nothing_was_trained() -> None:
    untrained = MADE | {"step": 99, "loss/kl_to_old": None, "loss/clip_fraction_low": None, "rollout/reward_mean": 1.0}
    lines = [step_line(one, 200) for one in (MADE, untrained)]
    assert "KL       -  clipped" in lines[1]
    assert len({tuple(line.index(name) for name in ("reward", "KL", "clipped", "entropy")) for line in lines}) == 1


def test_a_run_says_what_it_is_before_it_begins(tmp_path: Path) -> None:
    config = resolve({"loss_type": "fipo", "delta": 10, "lr": 1e-3, "steps": 7, "seed": 3, "device": "cpu"})
    assert list(start_lines(config, tmp_path / "mine")) == [
        "training tiny (100,800 parameters) on graded_chain_sum, CPU, threads 1, ranks 1",
        "loss fipo, averaging token_mean, epsilon 0.2, epsilon_high 0.2, delta 10, fipo_decay_rate 32, "
        "fipo_clip_range 0.2, fipo_clip_high_only true, fipo_safety_threshold 4; lr 0.001",
        "7 steps of 32 x 8 responses, seed 3; time: about 14 s",
        f"folder {tmp_path / 'mine'}",
    ]


def test_a_loss_is_described_by_what_its_formula_reads(tmp_path: Path) -> None:
    config = resolve({"loss_type": "gspo", "epsilon": 0.1, "model": "owner/name", "steps": 7, "device": "cpu"})
    _, loss, size, _ = start_lines(config, tmp_path / "mine")
    assert loss == "loss gspo, averaging sequence_mean, gspo_epsilon_low 0.0003, gspo_epsilon_high 0.0004; lr 0.0003"
    assert size.endswith("time: known after the first step")
