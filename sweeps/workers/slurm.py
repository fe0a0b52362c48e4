"""SLURM: a job per trial through submitit. A preempted job saves, is queued again and goes on from its checkpoint.

The study's folder must be one that the nodes see, and commands be started from this checkout.
"""

import argparse
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submitit import SlurmExecutor
from submitit.core.utils import DelayedSubmission, FailedJobError, UncompletedJobError

from harness import HarnessError, UsageError, free_port, memory_kills
from sweeps.search.spec import Search, trial_name
from sweeps.study.folder import PlannedRun
from sweeps.workers.holders import Holder, ask_to_end, end_session
from sweeps.workers.leases import Lease, acquire, cancel_job
from sweeps.workers.slots import GRACE_S, Attempt, start

KILLED = -9
REQUEUES = 100  # after time-outs; submitit does not count preemptions


@dataclass
class TrialJob:
    """What a job runs: the trial's runs, one after the other. Finished ones are skipped when it is queued again."""

    runs: Sequence[PlannedRun]
    runner: Holder | None = None

    def __call__(self) -> list[int]:
        """Exit code of each run; the others are not begun after one that did not finish."""
        codes: list[int] = []
        for run in self.runs:
            codes.append(codes[-1] if codes and codes[-1] else self.code_of(run))
        return codes

    def code_of(self, run: PlannedRun) -> int:
        """Run it, or go on with it."""
        if run.state() == "finished":
            return 0
        kills = memory_kills()
        # SLURM's warning goes to every process of the job; it is for this one, which asks the run to stop
        process = start(run, {"MASTER_PORT": str(free_port())}, before=ignore_warning)
        self.runner = Holder.of(process.pid)
        code = process.wait()
        if code == KILLED and memory_kills() > kills:
            run.reason_file.write_text("out_of_memory", encoding="utf-8")
        return code

    def checkpoint(self) -> DelayedSubmission:
        """Called on preemption: have the run save, and queue the job again.

        A signal handler calls it while `wait` above holds the process's lock, so nothing here may ask for that.
        """
        if self.runner is not None:
            ask_to_end(self.runner)
            end_session(self.runner, GRACE_S)
        return DelayedSubmission(TrialJob(self.runs))


def ignore_warning() -> None:
    """Leave the signal by which SLURM warns to the job's own process."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


@dataclass
class JobRun:
    """A run of a job, as a process."""

    job: Any
    place: int  # of the run in the job
    code: int | None = None

    def poll(self) -> int | None:
        """Its exit code when the whole job has ended; that of a killed process where it left none."""
        if self.code is None and self.job.done():
            try:
                self.code = int(self.job.result()[self.place])
            except (FailedJobError, UncompletedJobError):
                self.code = KILLED
        return self.code


@dataclass
class SlurmSlot:
    """One job at a time."""

    name: str
    executor: SlurmExecutor
    lease: Lease
    job: Any = None
    takes_whole_trials = True

    def start(self, runs: Sequence[PlannedRun]) -> list[Attempt]:
        """Submit a job for the trial."""
        absolute = [PlannedRun(run.arm, run.seed, run.config, run.study.resolve()) for run in runs]
        self.executor.update_parameters(job_name=runs[0].arm)
        try:
            self.job = self.executor.submit(TrialJob(absolute))
        except FailedJobError as error:
            raise HarnessError(f"sbatch refused {runs[0].arm}: {str(error).strip().splitlines()[-1]}") from None
        self.lease.note(job=str(self.job.job_id), run=runs[0].name)
        return [Attempt(run, JobRun(self.job, place)) for place, run in enumerate(runs)]

    def ask_to_stop(self) -> None:
        """Cancel the job: SLURM asks its processes to end, and kills them if they do not."""
        if self.job is not None:
            cancel_job(str(self.job.job_id), wait_s=0.0)

    def renew(self) -> None:
        """Renew the lease."""
        self.lease.renew()

    def release(self) -> None:
        """Release the lease."""
        self.lease.release()

    def clear(self, grace_s: float = 0.0) -> None:
        """Wait for a cancelled job to end."""
        if self.job is not None and grace_s:
            cancel_job(str(self.job.job_id), wait_s=grace_s)
        self.job = None
        self.lease.note()


def check_slurm(study: Path, options: argparse.Namespace) -> None:
    """Raise UsageError where jobs could not be submitted from here."""
    if shutil.which("srun") is None:
        raise UsageError("--launcher slurm: expected srun on this machine, got none: --dry_run works anywhere")
    executor_of(AnywhereExecutor, study, options)


def slurm_slots(study: Path, count: int, options: argparse.Namespace) -> list[SlurmSlot]:
    """The slots that no other search holds."""
    leases = [acquire(study / "slots" / f"slurm-{number}.json") for number in range(count)]
    executors = [executor_of(SlurmExecutor, study, options) for _ in leases]
    return [
        SlurmSlot(f"job {number}", executor, lease)
        for number, (executor, lease) in enumerate(zip(executors, leases, strict=True))
        if lease is not None
    ]


def executor_of(kind: type[SlurmExecutor], study: Path, options: argparse.Namespace) -> SlurmExecutor:
    """submitit's executor with the options of `--slurm`. Raises UsageError on an unknown one."""
    executor = kind(folder=study.resolve() / "slurm", max_num_timeout=REQUEUES)
    settings: dict[str, Any] = {"job_name": "trial", "ntasks_per_node": 1, "nodes": 1, "time": 60}
    settings["additional_parameters"] = {"requeue": True}
    if options.gpus_per_trial:
        settings["gpus_per_node"] = options.gpus_per_trial
    settings |= slurm_options(options.slurm)
    try:
        executor.update_parameters(**settings)
    except (ValueError, TypeError) as error:
        words = str(error).splitlines()[0]
        raise UsageError(f"--slurm: {words}: expected sbatch's options, such as partition, time, mem") from None
    return executor


def slurm_options(given: str) -> dict[str, Any]:
    """`partition=gpu,time=120` by name; numbers as numbers."""
    found: dict[str, Any] = {}
    for part in filter(None, given.split(",")):
        name, separator, value = part.partition("=")
        if not separator or not value:
            raise UsageError(f"--slurm: expected name=value with commas between, got {part!r}")
        found[name] = int(value) if value.isdecimal() else value
    return found


class AnywhereExecutor(SlurmExecutor):
    """An executor that only writes scripts, so it needs no SLURM."""

    @classmethod
    def affinity(cls) -> int:
        """As if srun were there."""
        return 1


def print_scripts(search: Search, options: argparse.Namespace, say: Callable[[str], None]) -> None:
    """The script of every trial's job; what it runs is pickled beside it when it is submitted."""
    executor = executor_of(AnywhereExecutor, search.study, options)
    for loss in search.losses:
        for index in range(search.trials):
            name = trial_name(loss, index)
            executor.update_parameters(job_name=name)
            say(f"# {name}, for seeds {', '.join(map(str, search.seeds))} one after the other:")
            say(f"# python -m harness train --config {search.study}/configs/{name}-seed<seed>.json")
            command = f"{sys.executable} -u -m submitit.core._submit {executor.folder}"
            say(executor._make_submission_file_text(command, name))
