"""The command `compare`: arms x seeds under one family's rules."""

import argparse
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from harness import Config, Difference, HarnessError, UsageError, settings_in
from sweeps.plan import plan_lines
from sweeps.study.arms import Arm, Family, arms_of, check_differences, differences_between, load_family
from sweeps.study.claims import check_claims, fixed_claims
from sweeps.study.folder import PlannedRun, locked, planned_runs, with_earlier_arms, write_study
from sweeps.workers.endings import early_end, is_data
from sweeps.workers.progress import Progress, blocks_table, differences_table, make_console
from sweeps.workers.slots import POLL_S, LocalSlot, Slot, harness_process, run_all, stop_process

DEFAULT_PRESET = "demo"
ATTEMPTS = 3  # processes at most that one call starts for a run that is killed


@dataclass(frozen=True)
class Comparison:
    """What is compared, and where it is recorded."""

    study: Path
    family: Family
    preset: str
    arms: Sequence[Arm]
    differences: Sequence[Difference]
    claims: Mapping[str, Any] | None = None
    design: Mapping[str, Any] | None = None  # of a study of several blocks


def compare_command(options: argparse.Namespace) -> None:
    """Print what differs, refuse what may not, run what is not finished yet."""
    end_like_ctrl_c()
    if options.slots < 0:
        raise UsageError(f"--slots: expected 0 (one per core) or more, got {options.slots}")
    family = load_family(options.family)
    flags = settings_in(vars(options))
    preset = preset_of(family, options.preset)
    arms = arms_of(family, arm_seeds(options), options.preset, flags, options.first_seed)
    study = Path(options.study or f"runs/{options.command}-{datetime.now():%Y%m%d-%H%M%S}")
    check_differences(differences_between(arms, family), family)
    if (study / "config.json").exists():
        raise UsageError(f"--study: expected a folder of its own, got {str(study)!r}, which holds a run: name another")
    check_claims(options.claims)
    with locked(study):
        arms = with_earlier_arms(study, family, preset, arms)
        differences = differences_between(arms, family)
        check_differences(differences, family)
        slots = options.slots or own_slots(arms[0].any_config)
        claims = fixed_claims(study, options.claims)
        comparison = Comparison(study, family, preset, arms, differences, claims)
        compare(comparison, [LocalSlot(str(number)) for number in range(slots)])


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


def compare(comparison: Comparison, slots: Sequence[Slot]) -> None:
    """Say the plan, then carry it out; what is killed is tried again. Raises HarnessError if a run has no outcome."""
    console, study, family = make_console(), comparison.study, comparison.family
    runs = planned_runs(comparison.arms, study)
    unfinished = [run for run in runs if not is_data(run)]
    console.print(f"family {family.name}: {family.description}")
    if comparison.design:
        console.print(blocks_table(comparison.design))
    elif comparison.differences:
        console.print(differences_table(comparison.differences))
    for line in plan_lines(unfinished, len(runs) - len(unfinished), len(slots)):
        console.print(line)
    extra = {"design": dict(comparison.design)} if comparison.design else {}
    write_study(study, family, comparison.preset, comparison.arms, {"claims": comparison.claims, **extra})
    prepare(unfinished, study, console)
    progress = Progress(runs, console)
    for _ in range(ATTEMPTS):
        run_with_progress(progress, unfinished, slots)
        unfinished = [run for run in unfinished if not is_data(run)]
        if not unfinished or not all(progress.was_killed(run) for run in unfinished):
            break
    console.print(f"study: {study}")
    for name in sorted({end for run in runs if (end := early_end(run))}):
        ended = ", ".join(run.name for run in runs if early_end(run) == name)
        console.print(f"{name}, which is a result and counts as one: {ended}")
    if unfinished:
        count = f"{len(unfinished)} of {len(runs)} runs failed"
        raise HarnessError(f"{count}; the others are complete. Start again to retry them")


def own_slots(config: Config) -> int:
    """How many of such runs at a time: one per core, but one alone of those that several processes or a GPU make."""
    if config.backend.nproc > 1 or config.task.task == "math":
        return 1
    return max(1, usable_cores() // config.run.threads)


def usable_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def end_like_ctrl_c() -> None:
    """Let SIGTERM and a closed terminal end the command as Ctrl-C does: leaving no process behind."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup's choice stands
            signal.signal(number, signal.default_int_handler)


def arm_seeds(options: argparse.Namespace) -> dict[str, int]:
    """Seeds per arm from `--losses a,b` and `--controls c,d:3`."""
    seeds = {name: options.seeds for name in options.losses.split(",") if name}
    for control in filter(None, (options.controls or "").split(",")):
        name, _, count = control.partition(":")
        if count and not count.isdecimal():
            raise UsageError(f"--controls: expected names like blame or random_reward:3, got {control!r}")
        seeds[name] = int(count) if count else options.seeds
    if not seeds or min(seeds.values()) < 1:
        raise UsageError(f"--losses, --seeds: expected at least one arm with one seed or more, got {seeds}")
    return seeds


def prepare(runs: Sequence[PlannedRun], study: Path, console: Console) -> None:
    """Have each tiny model built once, before runs that would wait for each other to build it."""
    tiny = {
        (run.config.model.model_seed, run.config.task.task): run for run in runs if run.config.model.model == "tiny"
    }
    (study / "logs").mkdir(exist_ok=True)
    for (model_seed, _), run in sorted(tiny.items(), key=lambda item: item[0]):
        name = "prepare" if len(tiny) == 1 else f"prepare-{model_seed}"
        prepare_one(run, study / "logs" / f"{name}.log", console)


def prepare_one(run: PlannedRun, log: Path, console: Console) -> None:
    """Build one, and show how far it is."""
    shown = 0
    with log.open("wb") as output:
        process = harness_process(["prepare", "--config", str(run.config_file)], run.config.run.threads, output)
    try:
        while process.poll() is None:
            time.sleep(POLL_S)
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            whole = [line.rstrip() for line in lines if line.endswith("\n")]
            for line in whole[shown:]:
                console.print(line)
            shown = len(whole)
    finally:
        stop_process(process)
    if process.poll():
        raise HarnessError(f"the warm start failed: see {log}")


def run_with_progress(progress: Progress, runs: Sequence[PlannedRun], slots: Sequence[Slot]) -> None:
    """Run everything and show it."""
    terminal = progress.console.is_terminal
    display = Live(console=progress.console, refresh_per_second=2) if terminal else nullcontext()
    with display as live, closing(run_all(runs, slots)) as events:
        for running, ended in events:
            progress.update(live, running, ended)
    if not terminal:
        progress.console.print(progress.table())
