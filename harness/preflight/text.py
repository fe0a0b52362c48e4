"""A launch and its findings as text for people and as JSON for machines."""

import dataclasses
import textwrap
from collections.abc import Iterator
from typing import Any

from harness.config.base import spelled
from harness.config.loss import DEFAULT_AVERAGING, LossSettings
from harness.console import command
from harness.preflight.rules import SENTENCES, Finding
from harness.preflight.shell import UNKNOWN
from harness.preflight.terms import Terms

WIDTH = 118
AVERAGES = {
    "token_mean": "over the tokens of an update",
    "sequence_mean": "over the responses' means",
    "constant": "by a constant: responses times a length",
    "sequence_sum": "over the responses' sums",
}
ADVANTAGES = {
    "group": "reward minus the group's mean, over the group's standard deviation",
    "batch": "reward minus the group's mean, over the batch's standard deviation",
    "none": "reward minus the group's mean",
}


def text(value: Any) -> str:
    return "not known" if value == UNKNOWN else spelled(value)


def described(terms: Terms) -> dict[str, str]:
    """The loss that will run, a line per quantity."""
    loss, kind = terms.loss, terms.loss.get("loss_type")
    named = f"{terms.spelled(terms.table.terms['loss'])} {text(terms['loss'])}"
    values = {name: text(value) for name, value in loss.items()}
    clip = SENTENCES["clips"][kind].format(**{"delta": "none"} | values) if kind else "not ours to say"
    old = "to the sampler's log-probabilities" if terms.is_stale else "to the policy at the start of the rollout"
    cut = f", log-ratios cut at {loss['log_ratio_clamp']:g}" if "log_ratio_clamp" in loss else ""
    group, rollout = text(terms["group_size"]), text(terms["prompts_per_step"])
    kl = f", and {text(terms['kl_in_reward'])} in the reward" if terms.number("kl_in_reward") else ""
    return {
        "loss": f"{kind} ({named})" if kind else f"not one of ours ({named})",
        "averaging": AVERAGES.get(terms["averaging"], text(terms["averaging"])),
        "advantages": ADVANTAGES.get(terms["advantage_scale"], text(terms["advantage_scale"])),
        "ratio": f"per {'response' if kind == 'gspo' else 'token'}, {old}{cut}",
        "clip": clip,
        "KL": "none" + kl if terms["beta"] == 0 else f"{text(terms['beta'])} in the loss{kl}",
        "updates": f"{text(terms['updates_per_rollout'])} per rollout of {rollout} prompts x {group} responses",
        "rate": f"{text(terms['lr'])}, {text(terms['responses_per_update'])} responses per update",
    } | ({"in ours": command("harness", "show", *flags(terms))} if kind else {})


def flags(terms: Terms) -> Iterator[str]:
    """The settings of our command `show` that give the same loss, where they are not its defaults."""
    for name, value in terms.loss.items():
        default = LossSettings.model_fields[name].default
        default = DEFAULT_AVERAGING.get(terms.loss["loss_type"]) if name == "averaging" else default
        is_choice = name != "advantage_scale" or value in ADVANTAGES
        if is_choice and value != UNKNOWN and (value != default or name == "loss_type"):
            yield from (f"--{name}", spelled(value))


def page(launches: list[tuple[Terms, list[Finding]]], between: list[Finding]) -> Iterator[str]:
    """The lines of the page: each launch with its findings, then what differs between them."""
    for terms, found in launches:
        launch = terms.launch
        yield f"{launch.path}:{launch.line}: {terms.table.version}, {launch.program}"
        for name, words in described(terms).items():
            yield from textwrap.wrap(words, WIDTH, initial_indent=f"  {name:12}", subsequent_indent=" " * 14)
        yield ""
        for one in found:
            yield from lines(one)
    if between:
        yield from (f"{launches[0][0].launch.path} and {launches[1][0].launch.path}:", "")
        for one in between:
            yield from lines(one)
    everything = [one.severity for found in (*(found for _, found in launches), between) for one in found]
    counts = [f"{count} {kind}{'s' * (count != 1)}" for kind in ("error", "warning", "note") if (count := everything.count(kind))]
    yield ", ".join(counts) or "nothing found"


def lines(one: Finding) -> Iterator[str]:
    yield f"{one.path}:{one.line}: {one.severity}: {one.what} [{one.code}]"
    for label, words in (("why: ", one.why), ("change: ", one.change)):
        yield from textwrap.wrap(words, WIDTH, initial_indent=f"    {label}", subsequent_indent=" " * (4 + len(label)))


def as_json(launches: list[tuple[Terms, list[Finding]]], between: list[Finding]) -> dict[str, Any]:
    def plain(one: Finding) -> dict[str, Any]:
        return dataclasses.asdict(one) | {"path": str(one.path)}

    return {
        "launches": [
            {
                "path": str(terms.launch.path),
                "line": terms.launch.line,
                "library": terms.table.version,
                "settings": {name: None if value == UNKNOWN else value for name, value in (terms.values | terms.loss).items()},
                "findings": [plain(one) for one in found],
            }
            for terms, found in launches
        ],
        "differences": [plain(one) for one in between],
    }
