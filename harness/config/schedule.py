"""The schedule of evaluations: when a run is evaluated, with how many answers per prompt."""

from harness.config.schema import Config


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
