"""The command `search`: over one or several losses; it can be killed at any moment and goes on where it was."""

import argparse
import platform
from collections.abc import Mapping
from typing import Any

import optuna

from harness import HarnessError, guessed_seconds, in_words, most_tokens, read_config, say, write_json
from sweeps.comparison import going_on, prepare
from sweeps.search.controller import Controller
from sweeps.search.description import check_same, described, fingerprint
from sweeps.search.options import Search, search_of
from sweeps.search.study import LossStudy, open_storage, storage_errors
from sweeps.search.tables import ENDED, best_rows, trial_rows, values_line, write_best, write_trials
from sweeps.search.winners import check_comparable, run_winners
from sweeps.study.claims import check_claims, fixed_claims
from sweeps.study.folder import PlannedRun, locked
from sweeps.workers.pool import Pool, gpu_places, usable_cores


def search_command(options: argparse.Namespace) -> None:
    """Refuse what can be refused, say the plan, carry it out, run the winners again, and write what was found."""
    search = search_of(options)
    check_claims(options.claims or search.arms.claims)
    check_comparable(search)
    old = check_same(described(search), search.study)
    if search.gpus_per_trial:
        places = gpu_places(search.gpus_per_trial, search.slots)
    else:
        places = [()] * (search.slots or max(1, usable_cores() // search.typical_config().run.threads))
    # one controller per study and host; hosts that share a storage may share the folder
    lock = ".lock" if search.url is None else f".lock-{platform.node()}"
    with going_on(search.study, options), storage_errors():
        database = None if search.url is None else opened(search, old)  # refused before the folder is made
        with locked(search.study, lock), Pool(search.study, places) as pool:
            studies = database or opened(search, old)
            describe(search, old, fixed_claims(search.study, options.claims, search.arms.claims))
            lost = 0 if search.url else sum([study.fail_running() for study in studies.values()])
            if lost:
                say(f"resuming the trials of a controller that died: {lost}")
            typical_run(search).write_config()
            prepare([typical_run(search)], (), search.study)  # before runs that would wait for each other to build it
            rows = trial_rows(search, studies)
            for line in plan_lines(search, sum(row["state"] in ENDED for row in rows), pool.size):
                say(line)
            run_and_report(search, studies, pool)


def opened(search: Search, old: Mapping[str, Any] | None) -> Mapping[str, LossStudy]:
    """The search's studies in its storage, made where they are missing. Raises UsageError where that cannot be.

    old: study.json of a search that goes on, which keeps its sampler.
    """
    storage, sampler = open_storage(search.url, search.study), (old or described(search))["sampler"]
    studies = {loss: LossStudy(storage, f"{search.name}/{loss}", sampler) for loss in search.losses}
    began = typical_run(search).config_file  # as the search was begun, with what settings were added since
    is_ours = began.is_file() and read_config(began) == search.typical_config()
    for loss, study in studies.items():
        study.claim(fingerprint(search, loss), is_ours)
    return studies


def describe(search: Search, old: Mapping[str, Any] | None, claims: Mapping[str, Any] | None) -> None:
    """study.json: what the search is."""
    content = described(search) | {"claims": claims}
    content["sampler"] = old["sampler"] if old else {**content["sampler"], "optuna": optuna.__version__}
    write_json(search.study / "study.json", content)


def typical_run(search: Search) -> PlannedRun:
    """A run that stands for all, of which only the config is written."""
    return PlannedRun("prepare", search.tuning_seeds[0], search.typical_config(), search.study)


def plan_lines(search: Search, ended: int, slots: int) -> list[str]:
    """Trials, runs, tokens and time; `ended`: trials that need no run any more."""
    config, losses, seeds = search.typical_config(), len(search.losses), search.seeds
    winners = (losses + len(search.controls)) * search.report_seeds
    runs = (losses * search.trials - ended) * seeds + winners
    again = f"run again on {search.report_seeds} fresh seeds each, on the reporting prompts: {winners} runs"
    seconds = guessed_seconds(config)
    time_s = "unknown until the first trial ends" if seconds is None else f"about {in_words(runs * seconds / slots)}"
    return [
        f"search: {', '.join(search.losses)}: {search.trials} trials each by {search.sampler} x {seeds} seeds = "
        f"{losses * search.trials * seeds} runs of at most {config.run.steps} steps"
        + (f", {ended * seeds} of them ended before" if ended else ""),
        f"winners: {again if winners else 'not run again: the best of a search is biased upwards, so quote no value'}",
        f"tokens: at most {runs * most_tokens(config) / 1e6:.3g} million generated",
        f"time: {time_s} with {slots} at a time",
    ]


def run_and_report(search: Search, studies: Mapping[str, LossStudy], pool: Pool) -> None:
    """All trials, what they found, and the winners. Raises HarnessError where no trial has a value."""
    is_done = Controller(search, studies, pool).run()
    rows = trial_rows(search, studies)
    write_trials(search, rows)
    write_best(search, rows)
    done = sum(row["state"] in ENDED for row in rows)
    for loss, row in best_rows(rows).items():
        tried = sum(one["loss"] == loss and one["state"] in ENDED for one in rows)
        value = f"accuracy {row['value']:.3f} on tuning prompts"
        say(f"{loss}: best of {tried} trials: {value} with {values_line(row)}")
    say(f"study: {search.study}")
    if not is_done:
        words = "raise it and start the same command again"
        say(f"--max_hours {search.max_hours:g} reached after {done} of {len(rows)} trials: {words}")
    elif not any(row["state"] == "finished" for row in rows):
        reason = next((row["reason"] for row in rows if row.get("reason")), "none was run")
        raise HarnessError(f"no trial has a value; the first: {reason}: mend it, and search in a new --study")
    elif search.report_seeds:
        run_winners(search, rows, pool)
