"""SLURM without a cluster: stand-ins for its programs that run the submitted scripts here, and what submitit makes."""

import argparse
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from harness import UsageError
from sweeps.workers.slurm import slurm_options, slurm_slots
from tests.sweeps.processes import wait_for
from tests.sweeps.searching import arguments, controller, preset, rows, started
from tests.waiting import LONG_S

SBATCH = """#!/bin/sh
number=$(( $(cat {folder}/count 2>/dev/null || echo 100) + 1 ))
echo $number > {folder}/count
cp "$1" {folder}/$number.sh
SLURM_JOB_ID=$number setsid {folder}/job $number > {folder}/$number.log 2>&1 < /dev/null &
echo "Submitted batch job $number"
"""
# a job that is requeued runs its script again
JOB = """#!/bin/sh
echo $$ > {folder}/$1.pid
while :; do
  rm -f {folder}/$1.requeue
  bash {folder}/$1.sh
  [ -f {folder}/$1.requeue ] || exit 0
done
"""
SRUN = """#!/bin/sh
while [ $# -gt 0 ]; do
  case "$1" in --unbuffered) shift;; --output|--error) shift 2;; *) break;; esac
done
exec "$@"
"""
SCONTROL = '#!/bin/sh\n[ "$1" = requeue ] && touch {folder}/$2.requeue\n'
SCANCEL = "#!/bin/sh\necho $1 >> {folder}/cancelled\nkill -TERM -$(cat {folder}/$1.pid)\n"
SACCT = "#!/bin/sh\necho 'JobID|State|NodeList'\n"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-ins' folder."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    programs = {"sbatch": SBATCH, "job": JOB, "srun": SRUN, "scontrol": SCONTROL, "scancel": SCANCEL, "sacct": SACCT}
    for name, text in programs.items():
        (folder / name).write_text(text.replace("{folder}", str(folder)), encoding="utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def given(**changes: object) -> argparse.Namespace:
    return argparse.Namespace(**{"slurm": "", "gpus_per_trial": 0} | changes)


def test_a_dry_run_prints_the_script_of_every_job_and_writes_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["search", "--losses", "dapo", "--preset", str(preset(tmp_path, "tiny")), "--study", str(tmp_path / "s")]
    flags = ["--launcher", "slurm", "--dry_run", "--slurm", "partition=gpu,time=120,mem=32GB", "--trials", "2"]
    outcome = started([*command, *flags])
    text = "\n".join(outcome.printed)
    assert outcome.exit_code == 0
    for place in range(2):
        assert f"#SBATCH --job-name=dapo-trial000{place}" in text
    for line in ("--partition=gpu", "--time=120", "--mem=32GB", "--requeue", "--open-mode=append", "--signal=USR2@90"):
        assert text.count(f"#SBATCH {line}") == 2
    assert f"{sys.executable} -u -m submitit.core._submit {tmp_path / 's' / 'slurm'}" in text
    assert not (tmp_path / "s").exists()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--slurm", "partition"), "--slurm: expected name=value"),
        (("--slurm", "nonsense=3"), "--slurm: Unavailable parameter(s): ['nonsense']"),
    ],
)
def test_options_that_sbatch_does_not_have_are_refused(tmp_path: Path, flags: tuple[str, str], words: str) -> None:
    command = ["search", "--losses", "dapo", "--study", str(tmp_path / "s"), "--launcher", "slurm", "--dry_run", *flags]
    code, printed, errors = started(command)
    assert (code, printed, len(errors)) == (2, [], 1)
    assert words in errors[0]


def test_without_slurm_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, printed, errors = started(["search", "--study", str(tmp_path / "s"), "--launcher", "slurm"])
    assert (code, printed) == (2, [])
    assert errors == ["error: --launcher slurm: expected srun on this machine, got none: --dry_run works anywhere"]
    assert not (tmp_path / "s").exists()


def test_options_by_name() -> None:
    assert slurm_options("partition=gpu,time=30") == {"partition": "gpu", "time": 30}
    with pytest.raises(UsageError):
        slurm_options("time=")


def test_the_job_of_a_dead_controller_is_cancelled(slurm: Path, tmp_path: Path) -> None:
    from tests.sweeps.processes import dead_holder
    from tests.sweeps.test_leases import written

    study = tmp_path / "study"
    (study / "slots").mkdir(parents=True)
    written(study / "slots" / "slurm-0.json", dead_holder(), job="77", run="dapo-trial0000-seed1000")
    (slot,) = slurm_slots(study, 1, given())
    slot.lease.release()
    assert (slurm / "cancelled").read_text(encoding="utf-8").split() == ["77"]


@pytest.mark.train
def test_a_preempted_job_is_queued_again_and_goes_on(slurm: Path, model_folder: str, tmp_path: Path) -> None:
    command = arguments(tmp_path, model_folder, trials=1, seeds=2, steps=12, checkpoint_every=1, slots=1)
    study, log = tmp_path / "study", tmp_path / "log"
    process = controller([*command, "--launcher", "slurm"], log)
    wait_for(lambda: list(study.glob("runs/dapo-trial0000-seed1000/checkpoints/step_*")))
    (job,) = jobs_of(study)
    os.kill(job, signal.SIGUSR2)  # what SLURM sends to a step's processes before it takes the node away
    assert process.wait(LONG_S) == 0, log.read_text(encoding="utf-8")
    (row,) = rows(study)
    assert (row["state"], row["seeds"], row["attempts"]) == ("finished", [1000, 1001], 0)
    assert (study / "runs" / "dapo-trial0000-seed1000" / "resumes.jsonl").is_file()
    assert (slurm / "count").read_text(encoding="utf-8").strip() == "101"  # one job for the trial and its seeds


def jobs_of(study: Path) -> list[int]:
    """The processes of the study's jobs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            if "submitit.core._submit" in words and any(word.startswith(str(study)) for word in words):
                found.append(int(path.parent.name))
    return found
