"""From the flags of `search` and `plan` to a checked Search."""

import argparse
import math
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from harness import UsageError, resolve, settings_in
from sweeps.search.controller import Caps
from sweeps.search.designs import design
from sweeps.search.samplers import pruner_spec, sampler_spec
from sweeps.search.spaces import Space, load_space
from sweeps.search.spec import Limits, Search
from sweeps.study.arms import load_family, settings_of
from sweeps.study.folder import read_json
from sweeps.workers.slots import usable_cores

SET_BY_SEARCH = ("loss_type", "seed", "control", "output_dir", "eval_split")
FIRST_TUNING_SEED = 1000  # far from those that report, which begin at 0
DEFAULT_TRIALS, DEFAULT_SEEDS, DEFAULT_REPORT_SEEDS = 12, 2, 5


@dataclass(frozen=True)
class Plan:
    """A search with what its command was told besides."""

    search: Search
    slots: int
    caps: Caps


def plan_of(options: argparse.Namespace) -> Plan:
    """The search that the flags ask for. Raises UsageError on what does not fit together."""
    if options.slots < 0:
        raise UsageError(f"--slots: expected 0 (one per core) or more, got {options.slots}")
    check_numbers(options)
    losses = [name for name in (options.losses or "").split(",") if name]
    if not losses or len(set(losses)) < len(losses):
        raise UsageError(f"--losses: expected different losses among grpo, dapo and fipo, got {options.losses!r}")
    family = load_family(options.family)
    arms = {loss: settings_of(family, loss) for loss in losses}
    if bringing := [loss for loss, arm in arms.items() if "preset" in arm]:
        raise UsageError(
            f"--family {options.family}: expected arms without presets of their own, got {bringing[0]!r} with "
            f"{arms[bringing[0]]['preset']}: a search has one for all, pass --preset and another family"
        )
    spaces = {loss: load_space(options.space, loss) for loss in losses}
    first = next(iter(spaces.values()))
    name = options.sampler or first.sampler or "tpe"
    trials = number_of_trials(spaces, name, options.trials)
    fresh = DEFAULT_REPORT_SEEDS if first.sampler is None else 0  # a design is no hunt for the best
    fresh = fresh if options.report_seeds is None else options.report_seeds
    seeds = tuple(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + seed_count(options, first)))
    study = Path(options.study or f"runs/search-{datetime.now():%Y%m%d-%H%M%S}")
    search = Search(
        study=study,
        name=options.study_name or recorded_name(study) or study.resolve().name,
        storage=None if options.storage == "journal" else options.storage,
        preset=options.preset,
        family=options.family,
        space=options.space,
        spaces=spaces,
        settings=settings_by_loss(options, arms, spaces),
        sampler=sampler_spec(name, trials),
        sampler_seed=options.sampler_seed,
        pruner=pruner_spec(options.pruner, evaluated_every(options)),
        trials=trials,
        seeds=seeds,
        report_seeds=tuple(range(options.first_report_seed, options.first_report_seed + fresh)),
        limits=Limits(options.limit_response_tokens, options.limit_truncated_share, options.limit_collapse),
    )
    if set(search.report_seeds) & set(search.seeds):
        raise UsageError("--first_report_seed: expected seeds other than those of tuning (1000, 1001, ...)")
    slots = options.slots or max(1, usable_cores() // search.typical_config().run.threads)
    return Plan(search, slots, Caps(options.max_hours, options.max_tokens))


def check_numbers(options: argparse.Namespace) -> None:
    """Raise UsageError on a cap or limit that no search can keep, and on a storage that a process takes with it."""
    for name in ("max_hours", "max_tokens", "limit_response_tokens"):
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"--{name}: expected a number above 0, got {value}: leave it out for none")
    for name in ("limit_truncated_share", "limit_collapse"):
        value = getattr(options, name)
        if value is not None and not 0 <= value <= 1:
            raise UsageError(f"--{name}: expected a share from 0 to 1, got {value}")
    if options.storage in ("sqlite://", "sqlite:///", "sqlite:///:memory:"):
        raise UsageError(
            f"--storage: expected a database that outlives this process, got {options.storage!r}: name a file"
        )


def recorded_name(study: Path) -> str | None:
    """The name that the search in the folder has, wherever the folder was moved."""
    described = read_json(study / "study.json")
    name = described.get("name") if isinstance(described, dict) else None
    return name if isinstance(name, str) else None


def number_of_trials(spaces: dict[str, Space], sampler: str, given: int | None) -> int:
    """Trials per loss: the same for all, so that none wins by being tuned more."""
    if sampler != "grid":
        count = DEFAULT_TRIALS if given is None else given
        if count < 1:
            raise UsageError(f"--trials: expected 1 or more, got {count}")
        return count
    sizes = {loss: len(design(space, "grid", 0, (0, loss)) or []) for loss, space in spaces.items()}
    if len(set(sizes.values())) > 1:
        raise UsageError(f"--sampler grid: expected as many combinations for each loss, got {sizes}: search them apart")
    size = next(iter(sizes.values()))
    if given not in (None, size):
        raise UsageError(f"--trials: a grid has as many as it has combinations, {size}, got {given}: leave it out")
    return size


def evaluated_every(options: argparse.Namespace) -> int:
    """Training steps between evaluations, in every run."""
    flags = {name: value for name, value in vars(options).items() if name == "eval_every"}
    return resolve(flags, options.preset).evaluation.eval_every


def seed_count(options: argparse.Namespace, space: Space) -> int:
    """Tuning seeds per trial: as asked, as the space's design says, or DEFAULT_SEEDS."""
    count = options.seeds if options.seeds is not None else space.seeds or DEFAULT_SEEDS
    if count < 1 or (options.report_seeds or 0) < 0:
        raise UsageError(f"--seeds, --report_seeds: expected counts, got {count} and {options.report_seeds}")
    return int(count)


def settings_by_loss(
    options: argparse.Namespace, arms: dict[str, dict[str, Any]], spaces: dict[str, Space]
) -> dict[str, dict[str, Any]]:
    """What is not searched: the family's arm of each loss, the flags for all, and the budget of tokens per run."""
    flags = settings_in(vars(options))
    flags |= rank_settings(options.gpus_per_trial)
    found = {}
    for loss, space in spaces.items():
        arm = arms[loss]
        for flag in flags:
            if flag in space.parameters:
                raise UsageError(f"--{flag} is searched: drop it, or give a --space without it")
            if flag in SET_BY_SEARCH:
                raise UsageError(f"--{flag} is set by the search itself: drop it")
            if flag in arm:
                raise UsageError(f"--{flag} is set by arm {loss!r} of family {options.family!r} ({arm[flag]}): drop it")
        found[loss] = {**flags, **{name: value for name, value in arm.items() if name not in space.parameters}}
    if len(spaces) > 1 and "token_budget" not in flags:
        budget = default_budget(options.preset, flags)
        found = {loss: {**settings, "token_budget": budget} for loss, settings in found.items()}
    return found


def default_budget(preset: str, flags: dict[str, Any]) -> int:
    """Tokens per run where losses are searched side by side: one round of full responses per step."""
    config = resolve(flags, preset)
    return config.run.steps * config.responses_per_step * config.rollout.max_response_tokens


def rank_settings(gpus_per_trial: int) -> dict[str, Any]:
    """What a trial's config says where it has GPUs of its own: `train` starts its ranks itself."""
    return {"backend": "deepspeed", "nproc": gpus_per_trial} if gpus_per_trial else {}
