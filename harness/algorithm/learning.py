"""Detects steps that have nothing to learn from, and finds the likeliest reason."""

from collections.abc import Sequence

from harness.algorithm.state import Training
from harness.config.schema import Config
from harness.console import say
from harness.errors import GaveUp
from harness.rollouts.collect import Group, Response, Rollouts

NEARLY_ALL = 0.9  # share of cut responses from which a run is warned


def can_learn_from(groups: Sequence[Group], config: Config) -> bool:
    """Whether some group has different rewards and at least one unmasked response; otherwise the gradient is 0."""
    return any(
        len({response.reward for response in group}) > 1
        and not (config.task.overlong_filter and all(response.truncated for response in group))
        for group in groups
    )


def track_learning(training: Training, rollouts: Rollouts, config: Config) -> None:
    """Update `training.has_learned`. Prints a note if the first step has nothing, or no right answer, to learn from."""
    training.has_learned = training.has_learned or can_learn_from(rollouts.kept, config)
    if not training.has_learned:
        training.idle_reason = likely_reason(rollouts, config)
    if training.steps_done > 0:
        return
    if not training.has_learned:
        say(f"note: the first step has nothing to learn from: {training.idle_reason}")
    elif is_hopeless(rollouts.responses):
        say(f"note: in the first step, {likely_reason(rollouts, config)}")


def is_hopeless(responses: Sequence[Response]) -> bool:
    """Whether no response is right, or nearly all were cut at the limit."""
    cut = sum(response.truncated for response in responses)
    return cut >= NEARLY_ALL * len(responses) or not any(response.correct for response in responses)


def give_up_if_idle(training: Training, config: Config) -> None:
    """Raise GaveUp if `give_up_after` steps are done and none had anything to learn from."""
    limit, done = config.run.give_up_after, training.steps_done
    if not training.has_learned and limit is not None and done >= limit:
        raise GaveUp(
            f"gave up after {done} steps: none had a group with different rewards, so nothing was learned: "
            f"{training.idle_reason}; or start again with a higher --give_up_after"
        )


def likely_reason(rollouts: Rollouts, config: Config) -> str:
    """The likeliest reason why no group's rewards differ, with the settings to look at."""
    responses = rollouts.responses
    right = sum(response.correct for response in responses)
    cut = sum(response.truncated for response in responses)
    is_math, own = config.task.task == "math", "" if config.task.is_demonstrated else "--task_settings, "
    form = f"--answer_format {config.data.answer_format}, " if is_math else own
    data = "--train_data" if is_math else "--task"
    if not responses:
        return f"no prompts were left to ask: see {data}, or lower --prompts_per_step"
    if cut >= NEARLY_ALL * len(responses):
        return (
            f"{cut} of {len(responses)} responses were cut at --max_response_tokens "
            f"{config.rollout.max_response_tokens}: raise it, and see whether --prompt_template makes a prompt after "
            "which this --model ends its answers"
        )
    if right == 0:
        lenient = sum(response.grade.is_right_leniently for response in responses)
        read = f" ({lenient} if their answers are read leniently)" if lenient else ""
        return (
            f"none of {len(responses)} responses was right{read}, {cut} of them cut: see {form}--prompt_template and "
            "--max_response_tokens, and read the responses in the run's rollouts/"
        )
    if right == len(responses):
        return f"all {right} responses were right: take harder questions ({data}), or raise --temperature"
    if config.task.reward:
        return "the rewards were equal within each group: see --reward, or raise --group_size or --prompts_per_step"
    return (
        f"each prompt's responses were all right or all wrong ({right} of {len(responses)} right): raise --group_size, "
        "--prompts_per_step or --temperature"
    )
