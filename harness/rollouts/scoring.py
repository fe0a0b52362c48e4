"""What a response is paid: its correctness, less the overlong penalty; and the planted controls."""

from harness.config.task import TaskSettings
from harness.randomness import stream

RIGHT = 1.0  # DAPO eq. 7


def score(correct: bool, settings: TaskSettings, *key: int | str) -> float:
    """+1 for a right answer, `wrong_reward` for a wrong one (DAPO eq. 7: -1).

    Under `random_reward` a coin toss decides, keyed by (seed, step, prompt, j).
    """
    if settings.control == "random_reward":
        correct = bool(stream("random reward", *key).random() < 0.5)
    return RIGHT if correct else settings.wrong_reward


def overlong_penalty(response_tokens: int, max_response_tokens: int, settings: TaskSettings) -> float:
    """0 up to the buffer, then falling linearly to -overlong_factor at the limit (DAPO eq. 13); 0 without a buffer."""
    if settings.overlong_buffer is None:
        return 0.0
    over = response_tokens - (max_response_tokens - settings.overlong_buffer)
    return min(-over / settings.overlong_buffer * settings.overlong_factor, 0.0)
