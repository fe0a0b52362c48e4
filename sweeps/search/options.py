"""The flags of `search`, and the checked Search that they ask for."""

import argparse
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from harness import UsageError, add_setting_flags, resolve, settings_in
from sweeps.search.samplers import sampler_of
from sweeps.search.spaces import Space, load_space
from sweeps.search.spec import Limits, Search
from sweeps.study.arms import Family, load_family, settings_of
from sweeps.study.claims import add_claims
from sweeps.tracking.log import add_tracking_uri

SET_BY_SEARCH = ("loss_type", "seed", "control", "output_dir", "eval_split")
FIRST_TUNING_SEED = 1000  # far from those that report, which begin at 0
JOURNAL = "journal"
# by flag: default, what stands for the value, help
FLAGS: dict[str, tuple[Any, str, str]] = {
    "space": ("default", "NAME", "default (each loss's own), grpo, dapo, fipo, rivals, shared, or a TOML file"),
    "preset": ("demo", "NAME", "what all runs share"),
    "family": ("controlled", "F", "whose arms the losses are"),
    "trials": (12, "N", "trials per loss"),
    "seeds": (2, "N", "tuning seeds per trial, from 1000"),
    "report_seeds": (5, "N", "fresh seeds for the winners, from 0"),
    "sampler": ("tpe", "S", "tpe, qmc or random"),
    "sampler_seed": (0, "N", "keys its draws"),
    "study": (None, "DIR", "study folder (default: runs/search-<time>)"),
    "storage": (
        JOURNAL,
        "URL",
        "journal (a file in the study's folder, one host), sqlite:///FILE, or postgresql://USER@HOST/DB for several",
    ),
    "study_name": (None, "NAME", "in the storage, the same on every host (default: the folder's name)"),
    "slots": (0, "N", "runs at a time; 0: one per core"),
    "gpus_per_trial": (0, "N", "GPUs of a run, of those that CUDA_VISIBLE_DEVICES names; 0: train on the CPU"),
}
# by flag: default, the most it may be, help
NUMBERS: dict[str, tuple[float | None, float, str]] = {
    "limit_response_tokens": (None, math.inf, "mean tokens per answer beyond which a trial is never the best"),
    "limit_truncated_share": (None, 1, "the same of answers cut off"),
    "limit_collapse": (0.5, 1, "least final accuracy of every seed, as a share of that before training"),
    "max_hours": (None, math.inf, "end this start's trials after so long"),
    "max_tokens": (None, math.inf, "end the trials when so many tokens are generated"),
}


def add_search_flags(parser: argparse.ArgumentParser) -> None:
    """What is searched, how, where, and until when; then a flag for every setting that all runs share."""
    group = parser.add_argument_group("search")
    group.add_argument("--losses", "--loss", default="fipo", metavar="A,B", help="searched apart (default: fipo)")
    words = "of the family, run beside the winners, each at the best settings of the loss that it is like"
    group.add_argument("--controls", default="", metavar="A,B", help=words)
    for name, (default, shown, words) in FLAGS.items():
        known = "" if "default" in words else f" (default: {'none' if default is None else default})"
        kind = int if isinstance(default, int) else str
        group.add_argument(f"--{name}", type=kind, default=default, metavar=shown, help=words + known)
    for name, (limit, _, words) in NUMBERS.items():
        known = f"{words} (default: {limit or 'none'})"
        group.add_argument(f"--{name}", type=float, default=limit, metavar="N", help=known)
    add_claims(group)
    add_tracking_uri(group)
    add_setting_flags(parser)


def search_of(options: argparse.Namespace) -> Search:
    """The search that the flags ask for. Raises UsageError on what does not fit together."""
    check_numbers(options)
    resolve({}, options.preset)  # raises where there is none of that name
    losses = [name for name in options.losses.split(",") if name]
    if not losses or len(set(losses)) < len(losses):
        raise UsageError(
            f"--losses: expected one or more different losses, separated by commas, got {options.losses!r}"
        )
    family = load_family(options.family)
    spaces = {loss: load_space(options.space, loss) for loss in losses}
    study = Path(options.study or f"runs/search-{datetime.now():%Y%m%d-%H%M%S}")
    return Search(
        study=study,
        name=options.study_name or study.resolve().name,
        storage=None if options.storage == JOURNAL else options.storage,
        preset=options.preset,
        family_name=options.family,
        family=family,
        space=options.space,
        spaces=spaces,
        settings=settings_by_loss(options, family, spaces),
        controls=controls_of(family, options.controls, losses),
        sampler=sampler_of(options.sampler, options.trials, options.sampler_seed),
        trials=options.trials,
        seeds=tuple(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + options.seeds)),
        report_seeds=tuple(range(options.report_seeds)),
        limits=Limits(options.limit_response_tokens, options.limit_truncated_share, options.limit_collapse),
    )


def controls_of(family: Family, names: str, losses: Sequence[str]) -> dict[str, str]:
    """By control the loss searched that it is like, or like whose like it is. Raises UsageError where there is none."""
    found = {}
    for control in filter(None, names.split(",")):
        like = control if control in family.controls else None
        while like is not None and like not in losses:
            like = family.tables.get(like, {}).get("like")
        if like is None:
            raise UsageError(
                f"--controls: expected controls of family {family.name!r} ({', '.join(family.controls) or 'none'}) "
                f"that are like a loss searched ({', '.join(losses)}), got {control!r}: choose from these"
            )
        found[control] = like
    return found


def check_numbers(options: argparse.Namespace) -> None:
    """Raise UsageError on a number that no search can keep."""
    for name, least in (("trials", 1), ("seeds", 1), ("report_seeds", 0), ("slots", 0), ("gpus_per_trial", 0)):
        if getattr(options, name) < least:
            raise UsageError(f"--{name}: expected {least} or more, got {getattr(options, name)}")
    for name, (_, most, _) in NUMBERS.items():
        value = getattr(options, name)
        if value is not None and not (0 < value < math.inf if most == math.inf else 0 <= value <= most):
            expected = "a number above 0" if most == math.inf else "a share from 0 to 1"
            raise UsageError(f"--{name}: expected {expected}, got {value}: leave it out for none")
    if options.report_seeds > FIRST_TUNING_SEED:
        raise UsageError(
            f"--report_seeds: expected at most {FIRST_TUNING_SEED}, got {options.report_seeds}: those of tuning follow"
        )


def settings_by_loss(
    options: argparse.Namespace, family: Family, spaces: Mapping[str, Space]
) -> dict[str, dict[str, Any]]:
    """What is not searched: the family's arm of each loss, the flags for all, and the budget of tokens per run."""
    flags, arms = settings_in(vars(options)), {loss: settings_of(family, loss) for loss in spaces}
    if options.gpus_per_trial:  # `train` starts its ranks itself
        flags |= {"backend": "deepspeed", "nproc": options.gpus_per_trial}
    for loss, arm in arms.items():
        if "preset" in arm:
            raise UsageError(
                f"--family {options.family}: expected arms without presets of their own, got {loss!r} with "
                f"{arm['preset']}: a search has one for all, pass --preset and another family"
            )
        for flag in flags:
            if flag in spaces[loss].parameters:
                raise UsageError(f"--{flag} is searched: drop it, or give a --space without it")
            if flag in SET_BY_SEARCH:
                raise UsageError(f"--{flag} is set by the search itself: drop it")
            if flag in arm:
                raise UsageError(f"--{flag} is set by arm {loss!r} of family {options.family!r} ({arm[flag]}): drop it")
    if len(spaces) > 1 and "token_budget" not in flags:  # losses side by side: one round of full responses per step
        config = resolve(flags, options.preset)
        step = config.responses_per_step * config.rollout.max_response_tokens
        flags |= {"token_budget": config.run.steps * step}
    fixed = {loss: {n: v for n, v in arm.items() if n not in spaces[loss].parameters} for loss, arm in arms.items()}
    return {loss: {**flags, **own} for loss, own in fixed.items()}
