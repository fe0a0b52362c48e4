"""Arms x seeds under one family's rules: the commands compare, ablate, study and fork, which take one path.

A comparison is a study with one block. What differs is how its arms are made: from --losses, from a design's blocks, or
over the settings of recorded runs, which all arms continue.
"""

import argparse
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from harness import (
    MADE_HERE,
    Config,
    HarnessError,
    Stopped,
    UsageError,
    command,
    guessed_seconds,
    in_words,
    say,
    settings_in,
)
from sweeps.study.arms import Arm, Family, arms_of, check_differences, differences_between, load_family
from sweeps.study.blocks import check_same_design, load_design, planned
from sweeps.study.claims import check_claims, fixed_claims
from sweeps.study.folder import PlannedRun, locked, planned_runs, with_earlier_arms, write_study
from sweeps.study.forks import State, check_same_states, fork_description, forked_arms, states_of
from sweeps.tracking.log import track_later, tracking_uri
from sweeps.workers.attempts import early_end, is_data
from sweeps.workers.pool import Pool, usable_cores
from sweeps.workers.progress import Progress
from sweeps.workers.sessions import run_to_end

DEFAULT_PRESET = "demo"
WARM_START_S = 45.0


@dataclass(frozen=True)
class Comparison:
    """What is compared, and where it is recorded."""

    study: Path
    family: Family
    preset: str
    arms: Sequence[Arm]
    claims: Mapping[str, Any] | None = None
    design: Mapping[str, Any] | None = None  # of a study of several blocks
    states: Sequence[State] = ()  # of recorded runs, that all arms continue


def compare_command(options: argparse.Namespace) -> None:
    """`compare` and `ablate`: refuse what may not differ, run what is not finished yet."""
    family = load_family(options.family)
    preset = preset_of(family, options.preset)
    flags = settings_in(vars(options))
    arms = arms_of(family, arm_seeds(options), options.preset, flags, options.first_seed)
    check_differences(differences_between(arms, family), family)
    study = Path(options.study or f"runs/{options.command}-{datetime.now():%Y%m%d-%H%M%S}")
    carry_out(Comparison(study, family, preset, arms), options, family.claims)


def study_command(options: argparse.Namespace) -> None:
    """`study`: all blocks of a design; the same command again goes on."""
    if options.seeds is not None and options.seeds < 1:
        raise UsageError(f"--seeds: expected 1 or more, got {options.seeds}")
    design, flags = load_design(options.design), settings_in(vars(options))
    family, preset = load_family(design.family), options.preset or design.preset
    arms, described = planned(design, family, flags, options.seeds, preset)
    study = Path(options.study or f"runs/study-{design.name}")
    carry_out(Comparison(study, family, preset, arms, design=described), options, design.claims)


def fork_command(options: argparse.Namespace) -> None:
    """`fork`: every arm from the same states of recorded runs; the same command again goes on."""
    family, flags = load_family(options.family), settings_in(vars(options))
    if "steps" not in flags or options.noise < 1:
        raise UsageError(f"--steps, --noise: expected 1 or more of each, got {flags.get('steps')} and {options.noise}")
    study = Path(options.study or f"runs/fork-{datetime.now():%Y%m%d-%H%M%S}")
    states = states_of(options.runs, options.at)
    options.seeds = options.noise * len(states)
    arms = forked_arms(family, arm_seeds(options), states, flags, study)
    check_differences(differences_between(arms, family), family)
    preset = f"of {', '.join(dict.fromkeys(state.run.name for state in states))}"
    carry_out(Comparison(study, family, preset, arms, states=states), options, family.claims)


def carry_out(asked: Comparison, options: argparse.Namespace, claims: str) -> None:
    """Run what is asked for in its folder; `claims`: what is to be decided where no flag says it."""
    study = asked.study
    if options.slots < 0:
        raise UsageError(f"--slots: expected 0 (one per core) or more, got {options.slots}")
    if (study / "config.json").exists():
        raise UsageError(f"--study: expected a folder of its own, got {str(study)!r}, which holds a run: name another")
    check_claims(options.claims or claims)
    with going_on(study, options), locked(study):
        arms = asked.arms
        if asked.design:
            check_same_design(study, asked.design, asked.preset)
        else:
            check_same_states(study, asked.states)
            arms = with_earlier_arms(study, asked.family, asked.preset, arms)
            check_differences(differences_between(arms, asked.family), asked.family)
        fixed = fixed_claims(study, options.claims, claims)
        with Pool(study, [()] * (options.slots or own_slots(arms[0].any_config))) as pool:
            compare(replace(asked, arms=arms, claims=fixed), pool)


def compare(comparison: Comparison, pool: Pool) -> None:
    """Say the plan, then carry it out; what is killed is tried again. Raises HarnessError if a run has no outcome."""
    study = comparison.study
    runs = planned_runs(comparison.arms, study)
    unfinished = [run for run in runs if not is_data(run)]
    print_plan(comparison, unfinished, pool.size)
    extra: dict[str, Any] = {"design": dict(comparison.design)} if comparison.design else {}
    if comparison.states:
        extra = {"fork": fork_description(comparison.states, comparison.arms)}
    write_study(study, comparison.family, comparison.preset, comparison.arms, {"claims": comparison.claims, **extra})
    prepare(unfinished, comparison.states, study)
    progress, waiting = Progress(runs), list(unfinished)
    while waiting or pool.running:
        while waiting and pool.free:
            pool.start(waiting.pop(0))
        waiting += progress.update(pool.running, pool.ended())
        pool.rest()
    say(f"study: {study}")
    for name in sorted({end for run in runs if (end := early_end(run))}):
        ended_so = ", ".join(run.name for run in runs if early_end(run) == name)
        say(f"{name}, which is a result and counts as one: {ended_so}")
    if failed := sum(not is_data(run) for run in unfinished):
        raise HarnessError(f"{failed} of {len(runs)} runs failed; the others are complete. Start again to retry them")


def print_plan(comparison: Comparison, runs: Sequence[PlannedRun], slots: int) -> None:
    """What is asked, what differs between the arms, and the phases of the work, each with its size and minutes."""
    family, arms = comparison.family, comparison.arms
    say(f"family {family.name}: {family.description}")
    for line in block_lines(comparison.design) if comparison.design else difference_lines(arms, family):
        say(line)
    if note := next((arm.any_config.on_policy_note for arm in arms), ""):
        say(f"note: {note}")
    if not runs:
        say(f"all {sum(len(arm.configs) for arm in arms)} runs are finished")
        return
    known = [seconds for run in runs if (seconds := guessed_seconds(run.config)) is not None]
    time_s = (
        f"about {in_words(sum(known) / slots)}" if len(known) == len(runs) else "time unknown until the first steps"
    )
    finished = sum(len(arm.configs) for arm in arms) - len(runs)
    skipped = f" ({finished} finished before and skipped)" if finished else ""
    steps = runs[0].config.run.steps
    is_tiny = any(run.config.model.model == "tiny" for run in runs)
    made = f"warm start of the model: about {in_words(WARM_START_S)}" if is_tiny else "the model, about a minute"
    made = f"states {comparison.preset} ({len(comparison.states)}), by repeating updates" if comparison.states else made
    say(f"1. {made}, or nothing where it is cached")
    say(f"2. training: {len(runs)} runs of {steps} steps{skipped}, {slots} at a time: {time_s}")


def difference_lines(arms: Sequence[Arm], family: Family) -> list[str]:
    """For each arm the settings in which it differs from the first, with what the family does not admit marked."""
    found, (first, *others) = differences_between(arms, family), [arm.name for arm in arms]
    lines = []
    for name in others if found else ():
        words = [
            f"{one.field} {ours} ({'-' if theirs is None else theirs}){'' if one.allowed else ' CONFOUND'}"
            for one in found
            for ours, theirs in [(one.values[name], one.values[first])]
            if ours not in (theirs, None)
        ]
        lines.append(f"{name} differs from {first} in {', '.join(words) or 'nothing'}")
    return lines


def block_lines(design: Mapping[str, Any]) -> list[str]:
    """The blocks of a study: what each asks, of which arms, over what."""
    lines = []
    for name, block in design["blocks"].items():
        arms = ", ".join(dict.fromkeys(cell["arm"] for cell in block["cells"]))
        levels = ", ".join(dict.fromkeys(str(cell["level"]) for cell in block["cells"]))
        over = f" over {', '.join(block['varied'])} {levels}" if block["varied"] else ""
        lines.append(f"{name}: {block['question']} {arms}{over}, {block['seeds']} seeds")
    return lines


def preset_of(family: Family, asked: str) -> str:
    """What study.json names as the preset. Raises UsageError where one is asked for and the arms bring their own."""
    if not any("preset" in arm for arm in family.arms.values()):
        return asked
    if asked != DEFAULT_PRESET:
        raise UsageError(
            f"--preset {asked}: expected none with --family {family.name}, whose arms bring presets of their own: "
            "leave it out, or name another family"
        )
    return "each arm's own"


def own_slots(config: Config) -> int:
    """How many of such runs at a time: one per core, but one alone of those that several processes or a GPU make."""
    if config.backend.nproc > 1 or config.task.task == "math":
        return 1
    return max(1, usable_cores() // config.run.threads)


@contextmanager
def going_on(study: Path, options: argparse.Namespace) -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the command as Ctrl-C does, leaving no process behind; say what goes on.

    Whatever its end, the study is logged to MLflow afterwards if an address is asked for, and an address that is none
    is refused before anything is written.
    """
    uri = tracking_uri(options.tracking_uri)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup's choice stands
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        words = options.arguments if "--study" in options.arguments else [*options.arguments, "--study", study]
        raise Stopped(f"stopped; resume with: {command('sweeps', *words)}") from None
    finally:
        refused = isinstance(sys.exception(), UsageError)  # then what lies there is another study
        if (study / "study.json").is_file() and not refused:
            track_later(study, uri)


def arm_seeds(options: argparse.Namespace) -> dict[str, int]:
    """Seeds per arm from `--losses a,b` and `--controls c,d:3`."""
    names = [name for name in options.losses.split(",") if name]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"--losses: expected every arm once, got {twice[0]} twice: for more runs raise --seeds")
    seeds = dict.fromkeys(names, options.seeds)
    for control in filter(None, (options.controls or "").split(",")):
        name, _, count = control.partition(":")
        if count and not count.isdecimal():
            raise UsageError(f"--controls: expected names like blame or random_reward:3, got {control!r}")
        seeds[name] = int(count) if count else options.seeds
    if not seeds or min(seeds.values()) < 1:
        raise UsageError(f"--losses, --seeds: expected at least one arm with one seed or more, got {seeds}")
    return seeds


def prepare(runs: Sequence[PlannedRun], states: Sequence[State], study: Path) -> None:
    """Have each state of recorded runs, or else each model made here, built once for all runs. Raises HarnessError."""
    (study / "logs").mkdir(exist_ok=True)

    def made(name: str, threads: int, *arguments: object) -> None:
        log = study / "logs" / f"{name}.log"
        if run_to_end([str(word) for word in arguments], threads, log):
            raise HarnessError(f"what runs start from could not be made: see {log}")

    for state in states if runs else ():
        if not (out := state.folder(study)).exists():
            made(out.name, state.config.run.threads, "checkpoint", state.run, "--step", state.step, "--output_dir", out)
    models = [(run.config.model, run) for run in runs if run.config.model.model in MADE_HERE and not states]
    each = {(model.model, model.model_seed, run.config.task.task): run for model, run in models}
    for (_, model_seed, _), run in sorted(each.items(), key=lambda item: item[0]):
        name = "prepare" if len(each) == 1 else f"prepare-{model_seed}"
        made(name, run.config.run.threads, "prepare", "--config", run.config_file)
