"""The command `search`: over one or several losses; it can be killed at any moment and goes on where it was."""

import argparse
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from rich.console import Console

from harness import UsageError, cache_folder, tree_of, write_json
from sweeps.compare import end_like_ctrl_c, prepare
from sweeps.controller import Controller
from sweeps.estimate import Speed, cached, probed
from sweeps.gpus import listed_gpus
from sweeps.journal import repair
from sweeps.leases import acquire
from sweeps.optuna_study import VERSION, LossStudy, open_storage
from sweeps.progress import make_console
from sweeps.samplers import Spec
from sweeps.search_options import Plan, plan_of
from sweeps.search_plan import plan_lines
from sweeps.search_progress import SearchProgress, values_line
from sweeps.search_spec import Search, check_same
from sweeps.slots import LocalSlot, Slot
from sweeps.study import PlannedRun, locked
from sweeps.tables import best_rows, has_ended, trial_rows, write_findings, write_trials
from sweeps.tracking import mirrored
from sweeps.winners import run_winners

Studies = Mapping[str, LossStudy]


def search_command(options: argparse.Namespace) -> None:
    """Say the plan, carry it out, run the winners again, and write what was found."""
    end_like_ctrl_c()
    plan, console = plan_of(options), make_console()
    search = plan.search
    search.check()
    if options.launcher == "slurm":
        import sweeps.slurm  # submitit is imported for those who use it

        if options.dry_run:
            sweeps.slurm.print_scripts(search, options, print)
            return
        sweeps.slurm.check_slurm(search.study, options)
    gpu_groups(options)
    with locked(search.study, lock_name(search)):
        studies = opened(search, console.print)
        with held_slots(search, options, plan.slots) as slots, mirrored(search.study, options, console.print):
            prepare_model(search, console)
            for line in lines_of(plan, studies, console.print):
                console.print(line)
            ended = run_search(plan, studies, slots, console)
            report(search, studies, ended, console.print)
            if not ended and search.report_seeds:
                run_winners(search, studies, slots, console)


def plan_command(options: argparse.Namespace) -> None:
    """Say what a search would take, and run nothing but a probe of a few steps where no step has been measured."""
    plan, console = plan_of(options), make_console()
    plan.search.check()
    study = plan.search.study
    if (study / "study.json").is_file():
        check_same(plan.search.described(), study)
    for line in lines_of(plan, {}, console.print):
        console.print(line)


def lock_name(search: Search) -> str:
    """One controller per study and host; with a storage of its own a study may have hosts that share its folder."""
    return ".lock" if is_alone(search) else f".lock-{platform.node()}"


def is_alone(search: Search) -> bool:
    """Whether one controller at a time is all that the storage is for."""
    return search.storage is None or search.storage.startswith("sqlite")


def opened(search: Search, say: Callable[[str], None]) -> Studies:
    """The search's studies in its storage, made where they are missing; study.json is written once."""
    described = search.described()
    described["sampler"]["optuna"] = VERSION
    old = check_same(described, search.study)
    if search.storage is None and (note := repair(search.study / "optuna.journal")):
        say(f"note: {note}")
    if old and old["sampler"].get("optuna") != VERSION:
        say(f"note: the search was begun with Optuna {old['sampler'].get('optuna')}, this is {VERSION}")
    sampler = Spec(search.sampler.name, old["sampler"]["arguments"]) if old else search.sampler
    storage = open_storage(search.storage, search.study)
    studies = {loss: LossStudy(storage, f"{search.name}/{loss}", sampler, search.pruner) for loss in search.losses}
    kept = {"sampler": old["sampler"]} if old else {}
    write_json(search.study / "study.json", described | kept)
    return studies


@contextmanager
def held_slots(search: Search, options: argparse.Namespace, count: int) -> Iterator[Sequence[Slot]]:
    """The slots of this host, held by leases; what a dead controller of this study left running is ended."""
    with ExitStack() as stack:
        if options.launcher == "slurm":
            from sweeps.slurm import slurm_slots

            found = slurm_slots(search.study, count, options)
            for slot in found:
                stack.callback(slot.lease.release)
            yield found
            return
        folder = search.study / "slots"
        groups = gpu_groups(options) or [()] * count
        gpu_leases = cache_folder() / "leases"
        slots = []
        for number, gpus in enumerate(groups):
            paths = [gpu_leases / f"{uuid}.json" for uuid in gpus] or [folder / f"cpu-{number}.json"]
            leases = [lease for path in paths if (lease := acquire(path)) is not None]
            for lease in leases:
                stack.callback(lease.release)
            if len(leases) == len(paths):
                slots.append(LocalSlot(f"slot {number}", gpus, leases))
        for path in folder.glob("*.json"):  # of an earlier start with more slots
            if left := acquire(path):
                left.release()
        if not slots:
            raise UsageError("--gpus: every group of GPUs is held by another search on this host: wait for it")
        yield slots


def gpu_groups(options: argparse.Namespace) -> list[tuple[str, ...]]:
    """The GPUs of each slot; none where trials run on the CPU."""
    size = options.gpus_per_trial
    if not size:
        return []
    gpus = listed_gpus(options.gpus)
    if len(gpus) < size:
        raise UsageError(f"--gpus_per_trial {size}: expected at least so many GPUs, got {len(gpus)}")
    groups = [tuple(gpus[start : start + size]) for start in range(0, len(gpus) - size + 1, size)]
    return groups[: options.slots] if options.slots else groups


def lines_of(plan: Plan, studies: Studies, say: Callable[[str], None]) -> list[str]:
    """The plan in words, from a measured step."""
    search = plan.search
    left = sum(runs_left(search, loss, study) for loss, study in studies.items()) if studies else all_runs(search)
    return plan_lines(search, left, plan.slots, speed_here(search, say), plan.caps)


def all_runs(search: Search) -> int:
    """Runs of all trials of all losses."""
    return len(search.losses) * search.trials * len(search.seeds)


def runs_left(search: Search, loss: str, study: LossStudy) -> int:
    """Runs of the loss's trials that are still to be made."""
    left = search.trials * len(search.seeds)
    for index, trial in study.counting_all(search.trials).items():
        if trial is None:
            continue
        if has_ended(trial):
            left -= len(search.seeds)
        elif set(search.spaces[loss].searched) <= set(trial.params):
            runs = search.runs(loss, index, {**search.spaces[loss].fixed, **trial.params})
            left -= sum(run.state() == "finished" for run in runs)
    return left


def speed_here(search: Search, say: Callable[[str], None]) -> Speed:
    """How fast runs of these sizes are: measured before, or by a probe now."""
    config = search.typical_config()
    found = cached(config)
    if found is None:
        say("no step of these sizes has been measured on this machine: a probe of a few steps")
        found = probed(config)
    return found


def prepare_model(search: Search, console: Console) -> None:
    """Have the tiny model built once, before runs that would wait for each other to build it."""
    run = PlannedRun("prepare", search.seeds[0], search.typical_config(), search.study)
    run.config_file.parent.mkdir(exist_ok=True)
    write_json(run.config_file, tree_of(run.config))
    prepare([run], search.study, console)


def run_search(plan: Plan, studies: Studies, slots: Sequence[Slot], console: Console) -> str | None:
    """Run all trials and show them; which cap ended them before, or None. The tables are written as trials end."""
    search = plan.search
    progress = SearchProgress(search, studies, console, len(slots), cached(search.typical_config()))
    controller = Controller(
        search,
        studies,
        slots,
        is_alone(search),
        plan.caps,
        progress.say,
        lambda trial: progress.update(controller, trial),
    )
    write_trials(search, trial_rows(search, studies))
    with progress.shown():
        return controller.run()


def report(search: Search, studies: Studies, ended: str | None, say: Callable[[str], None]) -> None:
    """Write what was found, and say it."""
    rows = trial_rows(search, studies)
    write_trials(search, rows)
    write_findings(search, studies, rows)
    done = sum(row["state"] not in ("waiting", "running") for row in rows)
    if ended:
        say(f"{ended} reached after {done} of {len(rows)} trials: raise it and start the same command again to go on")
    for loss, row in best_rows(rows).items():
        value = f"accuracy {row['value']:.3f} on tuning prompts"
        say(f"{loss}: best of {search.trials} trials: {value} with {values_line(row)}")
    say(f"study: {search.study}")
