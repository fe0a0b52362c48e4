"""When a run is evaluated, with how many answers per prompt, and how long runs of known models take."""

from harness.config.schema import Config

# By model, seconds for 1000 responses and for the start: measured with `make demo` and `make real` on 2 cores of an AMD
# EPYC, one thread a run.
MEASURED_S = {"tiny": (1.9, 6.0), "smollm2-135m": (600.0, 25.0)}


def is_due(step: int, config: Config) -> bool:
    """Whether the policy is evaluated after `step` training steps: at the start, every `eval_every`, and at the end."""
    return step % config.evaluation.eval_every == 0 or step == config.run.steps


def due_steps(config: Config) -> list[int]:
    return [step for step in range(config.run.steps + 1) if is_due(step, config)]


def samples_at(step: int, config: Config) -> int:
    """Answers per prompt at this evaluation; the last evaluations, which give the final accuracy, take more."""
    last = due_steps(config)[-config.evaluation.final_evaluations :]
    return config.evaluation.final_eval_samples if step in last else config.evaluation.eval_samples


def evaluation_answers(config: Config) -> int:
    """Total number of answers in the evaluations of a run that completes all its steps."""
    return config.evaluation.eval_prompts * sum(samples_at(step, config) for step in due_steps(config))


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
    responses = config.run.steps * config.responses_per_step * rounds + 0.4 * evaluation_answers(config)
    return start + each * responses / 1000


def most_tokens(config: Config) -> float:
    """Tokens that a run generates at most: its budget and the step that passes it, or full responses in all rounds."""
    step = config.responses_per_step * config.rollout.max_response_tokens * most_sampling_rounds(config)
    return min(config.run.steps * step, (config.run.token_budget or float("inf")) + step)
