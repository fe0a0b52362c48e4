"""When a run is evaluated, with how many answers per prompt, and how long runs of known models take."""

from harness.config.schema import Config

# By model, seconds for 1000 responses and for the start: measured with `make demo` and `make real` on 2 cores of an AMD
# EPYC, one thread a run.
MEASURED_S = {"tiny": (1.9, 6.0), "smollm2-135m": (600.0, 25.0)}


def samples_at(step: int, config: Config) -> int:
    """Answers per prompt in the evaluation after `step` training steps; 0 where there is none.

    There is one at the start, every `eval_every` steps and at the end. The last ones, which give the final accuracy,
    take more answers.
    """
    settings, steps = config.evaluation, config.run.steps
    due = [*range(0, steps, settings.eval_every), steps]
    if step not in due:
        return 0
    return settings.final_eval_samples if step in due[-settings.final_evaluations :] else settings.eval_samples


def most_sampling_rounds(config: Config) -> int:
    """Sampling rounds of a step at most."""
    return config.rollout.max_sampling_rounds if config.rollout.dynamic_sampling else 1


def guessed_seconds(config: Config) -> float | None:
    """About how many seconds a run takes; None for a model that was not measured.

    Before any step is measured: later the time left comes from the steps made.
    """
    if config.model.model not in MEASURED_S:
        return None
    each, start = MEASURED_S[config.model.model]
    rounds = (1 + most_sampling_rounds(config)) / 2
    answers = config.evaluation.eval_prompts * sum(samples_at(step, config) for step in range(config.run.steps + 1))
    responses = config.run.steps * config.responses_per_step * rounds + 0.4 * answers
    return start + each * responses / 1000


def most_tokens(config: Config) -> float:
    """Tokens that a run generates at most: its budget and the step that passes it, or full responses in all rounds."""
    step = config.responses_per_step * config.rollout.max_response_tokens * most_sampling_rounds(config)
    return min(config.run.steps * step, (config.run.token_budget or float("inf")) + step)
