"""The command `search`: over one or several losses; it can be killed at any moment and goes on where it was."""

import argparse
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console

from harness import HarnessError, tree_of, write_json
from sweeps.comparison import end_like_ctrl_c, prepare
from sweeps.search.controller import Controller
from sweeps.search.journal import repair
from sweeps.search.options import Plan, plan_of
from sweeps.search.plan import plan_lines
from sweeps.search.progress import SearchProgress, values_line
from sweeps.search.samplers import Spec
from sweeps.search.spec import Search, check_same
from sweeps.search.study import VERSION, LossStudy, open_storage, storage_errors
from sweeps.search.tables import ENDED, Row, best_rows, has_ended, read_trials, trial_rows, write_findings, write_trials
from sweeps.search.winners import check_comparable, run_winners
from sweeps.study.arms import DEFAULT_CLAIMS
from sweeps.study.claims import check_claims, fixed_claims
from sweeps.study.folder import PlannedRun, locked
from sweeps.tracking.log import mirrored
from sweeps.workers.estimate import Speed, cached, probed
from sweeps.workers.gpus import gpu_groups
from sweeps.workers.progress import make_console
from sweeps.workers.slots import Slot, held_slots

Studies = Mapping[str, LossStudy]


def search_command(options: argparse.Namespace) -> None:
    """Say the plan, carry it out, run the winners again, and write what was found."""
    plan, console = checked_plan(options), make_console()
    search = plan.search
    groups = groups_of(options) or [()] * plan.slots
    with locked(search.study, lock_name(search)), storage_errors():
        studies = opened(search, fixed_claims(search.study, options.claims, DEFAULT_CLAIMS), console.print)
        with held_slots(search.study, groups) as slots, mirrored(search.study, options, console.print):
            if cached(search.typical_config()) is None:
                prepare_model(search, console)  # what is not known yet is measured, which needs the model
            for line in lines_of(plan, studies, console.print):
                console.print(line)
            prepare_model(search, console)
            run_and_report(plan, studies, slots, console)


def groups_of(options: argparse.Namespace) -> list[tuple[str, ...]]:
    """The GPUs of each slot; none where trials run on the CPU."""
    size = options.gpus_per_trial
    return gpu_groups(options.gpus, size, options.slots) if size else []


def run_and_report(plan: Plan, studies: Studies, slots: Sequence[Slot], console: Console) -> None:
    """All trials, what they found, and the winners. Raises HarnessError where no trial has a value."""
    search, started = plan.search, time.monotonic()
    ended = run_search(plan, studies, slots, console)
    rows = report(search, studies, ended, console.print)
    if not ended and not any(row["state"] == "finished" for row in rows):
        reason = next((row["reason"] for row in rows if row.get("reason")), "none was run")
        raise HarnessError(f"no trial has a value; the first: {reason}: mend it, and search in a new --study")
    if ended or not search.report_seeds:
        return
    beyond = winners_beyond(plan, rows, time.monotonic() - started, len(slots))
    if beyond:
        console.print(f"winners: not run again, since that would go beyond {beyond}: raise it and start again")
    else:
        run_winners(search, studies, slots, console)


def winners_beyond(plan: Plan, rows: Sequence[Row], spent_s: float, slots: int) -> str | None:
    """The cap that the winners' runs would break, by what the trials took, or None."""
    finished = [row for row in rows if row["state"] == "finished"]
    runs = sum(len(row["seeds"]) for row in finished)
    winners = len(plan.search.losses) * len(plan.search.report_seeds)
    seconds = spent_s + winners * sum(row["seconds"] for row in finished) / runs / slots
    tokens = sum(row["generated_tokens"] or 0 for row in rows)
    tokens += winners * sum(row["generated_tokens"] for row in finished) / runs
    if plan.caps.hours is not None and seconds > 3600 * plan.caps.hours:
        return f"--max_hours {plan.caps.hours:g}"
    return f"--max_tokens {plan.caps.tokens:g}" if plan.caps.tokens is not None and tokens > plan.caps.tokens else None


def plan_command(options: argparse.Namespace) -> None:
    """Say what a search would take, and run nothing but a probe of a few steps where no step has been measured."""
    plan, console = checked_plan(options), make_console()
    search = plan.search
    left = all_runs(search)
    if (search.study / "study.json").is_file():
        ended = [row for row in read_trials(search.study) if row["state"] in ENDED]
        left -= len(ended) * len(search.seeds)
    speed = speed_here(search, console.print)
    lines = plan_lines(search, left, plan.slots, speed, plan.caps)
    for line in lines:
        console.print(line)


def checked_plan(options: argparse.Namespace) -> Plan:
    """What the flags ask for, with all that can be refused refused before anything is written."""
    end_like_ctrl_c()
    plan = plan_of(options)
    plan.search.check()
    check_claims(options.claims or DEFAULT_CLAIMS)
    check_comparable(plan.search)
    check_same(plan.search.described(), plan.search.study)
    return plan


def lock_name(search: Search) -> str:
    """One controller per study and host; with a storage of its own a study may have hosts that share its folder."""
    return ".lock" if is_alone(search) else f".lock-{platform.node()}"


def is_alone(search: Search) -> bool:
    """Whether no other controller can be at work: the storage lies in the study's folder, which this one holds."""
    return search.storage is None


def opened(search: Search, claims: Mapping[str, Any] | None, say: Callable[[str], None]) -> Studies:
    """The search's studies in its storage, made where they are missing; study.json says what they are."""
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
    for loss, study in studies.items():
        study.claim(search.fingerprint(loss))
    kept = {"sampler": old["sampler"]} if old else {}
    write_json(search.study / "study.json", described | kept | {"claims": claims})
    return studies


def lines_of(plan: Plan, studies: Studies, say: Callable[[str], None]) -> list[str]:
    """The plan in words, from a measured step."""
    search = plan.search
    left = sum(runs_left(search, loss, study) for loss, study in studies.items())
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


def report(search: Search, studies: Studies, ended: str | None, say: Callable[[str], None]) -> list[Row]:
    """Write what was found, and say it; the rows of all trials."""
    rows = trial_rows(search, studies)
    write_trials(search, rows)
    write_findings(search, studies, rows)
    done = sum(row["state"] in ENDED for row in rows)
    if ended:
        say(f"{ended} reached after {done} of {len(rows)} trials: raise it and start the same command again to go on")
    for loss, row in best_rows(rows).items():
        value = f"accuracy {row['value']:.3f} on tuning prompts"
        tried = sum(one["loss"] == loss and one["state"] in ENDED for one in rows)
        say(f"{loss}: best of {tried} trials: {value} with {values_line(row)}")
    say(f"study: {search.study}")
    return rows
