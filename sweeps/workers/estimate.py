"""How long runs of the tiny model take, before any step is measured: later the time left comes from the steps made."""

from harness import Config, evaluation_answers

# Measured with the demo preset on 2 cores of an AMD EPYC, one thread a run.
TINY_S_PER_1000_RESPONSES, TINY_START_S = 1.9, 6.0


def most_sampling_rounds(config: Config) -> int:
    """Sampling rounds of a step at most."""
    return config.rollout.max_sampling_rounds if config.rollout.dynamic_sampling else 1


def guessed_seconds(config: Config) -> float | None:
    """About how many seconds a run of the tiny model takes; None for another model."""
    if config.model.model != "tiny":
        return None
    rounds = (1 + most_sampling_rounds(config)) / 2
    responses = config.run.steps * config.responses_per_step * rounds + 0.4 * evaluation_answers(config)
    return TINY_START_S + TINY_S_PER_1000_RESPONSES * responses / 1000


def most_tokens(config: Config) -> float:
    """Tokens that a run generates at most: its budget and the step that passes it, or full responses in all rounds."""
    step = config.responses_per_step * config.rollout.max_response_tokens * most_sampling_rounds(config)
    return min(config.run.steps * step, (config.run.token_budget or float("inf")) + step)
