"""The commands of docs/cluster.md: each dry, and one on two nodes of this host."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from torch.distributed.run import parse_args

from harness import OneLineParser, free_port
from harness.__main__ import main
from harness.backends.rendezvous import is_loopback
from sweeps.search.options import add_search_flags, search_of
from sweeps.search.winners import check_comparable
from tests.harness.backends.pairings import listening
from tests.harness.command_line import outcome
from tests.harness.runs import read_json
from tests.harness.tiny import small_flags
from tests.sweeps.processes import has_ended
from tests.waiting import LONG_S, wait_until

PAGE = (Path(__file__).parents[3] / "docs" / "cluster.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python -m harness (train .*)$", PAGE, re.MULTILINE)
(TORCHRUN,) = re.findall(r"^torchrun (.*)$", PAGE, re.MULTILINE)
SBATCH, ARRAY = re.findall(r"^```\n(#!/bin/bash\n.*?)```$", PAGE, re.MULTILINE | re.DOTALL)


def check_dry(words: list[str], start: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What the harness would start."""
    code, printed, errors = outcome(main, [*words, "--dry_run"], capsys)
    assert (code, errors) == (0, [])
    assert printed[-1].startswith(f"{start} on this host: ")
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_starts_what_it_says(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_dry(shlex.split(command), "8 ranks" if "--nproc 8" in command else "one process", capsys)


def test_torchrun_takes_its_command_apart_as_it_is_meant(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = parse_args(shlex.split(TORCHRUN))
    assert (found.module, found.training_script, found.nproc_per_node) == (True, "harness", "8")
    check_dry(found.training_script_args, "1 rank", capsys)


def test_the_slurm_script_starts_resumes_and_is_queued_again_when_preempted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools, work = tmp_path / "tools", tmp_path / "work"
    for folder in (tools, work, tmp_path / "empty"):
        folder.mkdir()
    (tools / "srun").write_text("#!/bin/sh\nshift\nprintf '%s\\n' \"$@\" > srun\n", encoding="utf-8")
    (tools / "scontrol").write_text(
        '#!/bin/sh\nif [ $1 = show ]; then printf "node7\\nnode8\\n"; else echo "$@" > requeued; fi\n', encoding="utf-8"
    )
    for tool in tools.iterdir():
        tool.chmod(0o755)
    environment = {"PATH": f"{tools}:/usr/bin:/bin", "SLURM_JOB_ID": "45", "SLURM_JOB_NODELIST": "node[7-8]"}
    run = work / "runs" / "fipo"
    for status, is_queued in (("finished", False), ("preempted", True)):
        run.mkdir(parents=True, exist_ok=True)
        (run / "status.json").write_text(json.dumps({"state": status}, indent=1), encoding="utf-8")
        subprocess.run(["bash", "-c", SBATCH], cwd=work, env=environment, check=False, timeout=LONG_S)
        assert (work / "requeued").is_file() == is_queued
        words = (work / "srun").read_text(encoding="utf-8").splitlines()
        found = parse_args(words)
        assert (found.rdzv_endpoint, found.rdzv_id, found.nnodes) == ("node7:29400", "45", "2")
        monkeypatch.chdir(tmp_path / "empty")
        if status == "finished":  # as if the folder had not been there
            check_dry(found.training_script_args, "1 rank", capsys)
        (run / "config.json").touch()
    assert found.training_script_args == ["resume", "runs/fipo"]
    assert (work / "requeued").read_text(encoding="utf-8") == "requeue 45\n"


def test_the_array_of_a_search_is_one_command_that_shares_folder_and_database(tmp_path: Path) -> None:
    srun = tmp_path / "srun"
    srun.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\" > words\n", encoding="utf-8")
    srun.chmod(0o755)
    subprocess.run(["bash", "-c", ARRAY], cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True)
    words = (tmp_path / "words").read_text(encoding="utf-8").splitlines()
    assert words[:4] == ["python", "-m", "sweeps", "search"]
    parser = OneLineParser(allow_abbrev=False)
    add_search_flags(parser)
    options = parser.parse_args(words[4:])
    search = search_of(options)
    search.check()
    check_comparable(search)
    assert (search.storage, str(search.study)) == ("postgresql://me@dbhost/optuna", "runs/sweep")
    assert {config["nproc"] for config in search.settings.values()} == {1}
    assert f"python -m sweeps track {search.study}" in PAGE


@pytest.mark.train
@pytest.mark.skipif(not os.environ.get("THOROUGH"), reason="a part of make test-deepspeed")
def test_two_nodes_of_torchrun_stop_together_when_one_is_asked_to(model_folder: str, tmp_path: Path) -> None:
    run, port = tmp_path / "run", free_port()
    command = TORCHRUN.replace("node1:29400", f"localhost:{port}").replace("--nproc-per-node 8", "--nproc-per-node 1")
    words = [*command.partition(" -m harness ")[0].split(), "--shutdown-timeout", "600", "-m", "harness", "train"]
    small = [*small_flags(model_folder, steps=400), "--backend", "deepspeed", "--output_dir", str(run)]
    node = [sys.executable, "-m", "torch.distributed.run", *words]
    with (tmp_path / "log").open("wb") as log:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        nodes = [subprocess.Popen([*node, *small], stdout=log, stderr=log, env=environment) for _ in range(2)]
    wait_until(
        lambda: (run / "metrics.jsonl").is_file() or any(one.poll() is not None for one in nodes), "no step was made"
    )
    ranks = [rank for one in nodes for rank in psutil.Process(one.pid).children()]
    assert len(ranks) == 2, (tmp_path / "log").read_text(encoding="utf-8")
    assert all(map(is_loopback, listening(ranks)))
    nodes[0].terminate()
    assert [one.wait(timeout=LONG_S) for one in nodes] == [1, 1]
    status = read_json(run / "status.json")
    assert (status["state"], status["exit_code"]) == ("preempted", 75)
    assert (run / "checkpoints" / f"step_{status['steps_done']:06d}").is_dir()
    wait_until(lambda: all(map(has_ended, ranks)), "ranks live on")
