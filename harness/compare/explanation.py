"""Why two runs part: what differed among the inputs of the first quantity that did."""

from collections.abc import Iterator

from harness.compare.divergence import LEARNED, Divergence
from harness.compare.rows import logprob_agreement, shown
from harness.config.differences import settings_that_differ
from harness.config.resolve import tree_of
from harness.run.environment import differing
from harness.run.history import History


def causes(ours: History, theirs: History, divergence: Divergence) -> Iterator[str]:
    """What differed among the inputs of the quantity that diverged: stream, settings, initial weights."""
    settings = settings_that_differ(ours.config, theirs.config)
    if divergence.stream and "seed" in settings:
        mine, other = settings["seed"]
        yield f"the random stream (seed, {divergence.stream!r}, ...): seeds {mine} and {other}"
    for flag, (mine, other) in settings.items():
        if flag in divergence.settings or (divergence.quantity in LEARNED and flag in learning_flags(ours)):
            yield f"the setting --{flag}: {mine} and {other}"
    if "model_sha256" in differing(ours.environment, theirs.environment):
        yield "the initial weights"


def suspects(ours: History, theirs: History) -> list[str]:
    """Where no input that is known to matter differs: all settings and surroundings that do."""
    differences = {
        **{f"--{flag}": pair for flag, pair in settings_that_differ(ours.config, theirs.config).items()},
        **differing(ours.environment, theirs.environment),
    }
    found = [f"{name}: {shown(mine)} and {shown(other)}" for name, (mine, other) in differences.items()]
    return found or ["no setting, stream or part of the surroundings that was recorded"]


def learning_flags(run: History) -> set[str]:
    """The flags of loss and optimizer."""
    tree = tree_of(run.config)
    return {*tree["loss"], *tree["optimizer"], "control"}


def explained(ours: History, theirs: History, divergence: Divergence) -> list[str]:
    """The lines that say where two runs part and why; no claim is made after that point."""
    where = "after the last step" if divergence.step is None else f"step {divergence.step}"
    lines = [f"first difference: {where}, {divergence.quantity}: {divergence.detail}"]
    reasons = list(causes(ours, theirs, divergence)) or suspects(ours, theirs)
    lines += [f"  from {reason}" for reason in reasons]
    if divergence.step is not None:
        a, b = (run.table("rollouts", divergence.step) for run in (ours, theirs))
        found = logprob_agreement(a, b) if a is not None and b is not None else None
        if found:
            lines.append(
                f"  log-probabilities of step {divergence.step} up to the first differing token of each response: "
                f"within {found[0]:.3g} over {found[1]:,} tokens"
            )
    return [*lines, "nothing is claimed of what comes after it"]
