"""Where ranks would be started: what --dry_run prints for one host, a hostfile and a SLURM job."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.__main__ import main
from tests.harness.command_line import Outcome, outcome

DEEPSPEED = ["train", "--backend", "deepspeed", "--steps", "2", "--output_dir", "runs/never-made", "--dry_run"]


Shown = Callable[..., Outcome]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Shown:
    return lambda *flags: outcome(main, [*DEEPSPEED, *flags], capsys)


def settings(line: str) -> dict[str, str]:
    """The environment that a line says a rank would have."""
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def test_one_host(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_PORT", raising=False)
    code, printed, errors = shown("--nproc", "2")
    assert (code, errors, len(printed)) == (0, [], 2)
    ports = set()
    for rank, line in enumerate(printed):
        assert line.startswith(f"rank {rank} on this host: env ")
        assert line.endswith("--output_dir runs/never-made")
        assert " -m harness train --backend deepspeed " in line
        assert "--dry_run" not in line
        found = settings(line)
        assert (found["RANK"], found["LOCAL_RANK"], found["WORLD_SIZE"]) == (str(rank), str(rank), "2")
        assert (found["MASTER_ADDR"], found["OMP_NUM_THREADS"]) == ("127.0.0.1", "1")
        assert found["LOCAL_WORLD_SIZE"] == "2"
        ports.add(found["MASTER_PORT"])
    (port,) = ports
    assert port != settings(shown("--nproc", "2").printed[0])["MASTER_PORT"]  # another start, another port
    assert not Path("runs/never-made").exists()


def test_a_port_that_is_given_is_used(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_PORT", "4321")
    assert settings(shown("--nproc", "2").printed[1])["MASTER_PORT"] == "4321"


def test_a_hostfile(shown: Shown, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("node1 slots=2  # the first one\n\nuser@node2\n", encoding="utf-8")
    code, printed, errors = shown("--nproc", "3", "--hostfile", str(hosts))
    assert (code, errors, len(printed)) == (0, [], 5)
    for rank, (host, local) in enumerate(
        [("node1", 0), ("node1", 1), ("user@node2", 0), ("user@node2", 1), ("user@node2", 2)]
    ):
        assert printed[rank].startswith(f"rank {rank} on {host}: ssh -tt -o BatchMode=yes {host} ")
        found = settings(printed[rank])
        assert (found["RANK"], found["LOCAL_RANK"], found["WORLD_SIZE"]) == (str(rank), str(local), "5")
        assert (found["MASTER_ADDR"], found["LOCAL_WORLD_SIZE"]) == ("node1", "2" if rank < 2 else "3")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a host on each line, got none"),
        ("node1 slots=0", "got 'node1 slots=0' on line 1"),
        ("node1\nnode1", "each host once, got 'node1' on line 2"),
        ("-oProxyCommand=reboot", "expected 'HOST' or 'HOST slots=N'"),
        ("node1; reboot", "expected 'HOST' or 'HOST slots=N'"),
    ],
)
def test_a_hostfile_that_is_none(shown: Shown, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "hosts").write_text(text, encoding="utf-8")
    code, printed, errors = shown("--hostfile", str(tmp_path / "hosts"))
    assert (code, printed, len(errors)) == (2, [], 1)
    assert words in errors[0]


def test_a_hostfile_that_is_missing(shown: Shown) -> None:
    assert "expected a readable file" in shown("--hostfile", "/no/such/file").errors[0]


def test_a_slurm_job_of_two_nodes(shown: Shown, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho node7\necho node8\n", encoding="utf-8")
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("MASTER_PORT", raising=False)
    job = {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "45"}
    for name, value in (job | {"SLURM_JOB_NODELIST": "node[7-8]"}).items():
        monkeypatch.setenv(name, value)
    code, printed, errors = shown("--nproc", "4")
    assert (code, errors, len(printed)) == (0, [], 4)
    first = settings(printed[0])
    assert (first["RANK"], first["LOCAL_RANK"], first["WORLD_SIZE"]) == ("4", "0", "8")
    assert (first["MASTER_ADDR"], first["MASTER_PORT"]) == ("node7", "20045")
    monkeypatch.setenv("SLURM_NTASKS", "16")
    code, printed, errors = shown("--nproc", "8")
    assert (code, printed) == (2, [])
    assert "expected one task per node" in errors[0]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--nproc", "2", "--backend", "torch"), "--nproc 2 needs --backend deepspeed"),
        (("--hostfile", "x", "--backend", "torch"), "--hostfile x needs --backend deepspeed"),
        (("--zero_stage", "4"), "--zero_stage: expected less than or equal to 3"),
        (("--offload", "all", "--zero_stage", "2"), "--offload all needs --zero_stage 3 or above, got 2"),
        (("--zero_stage", "0", "--dtype", "bfloat16"), "keeps no float32 weights"),
        (("--sampler_correction", "truncate"), "would count the same weights twice"),
        (("--lora_alpha", "8"), "--lora_alpha needs --lora_rank"),
    ],
)
def test_settings_that_do_not_go_together(shown: Shown, flags: tuple[str, ...], words: str) -> None:
    code, printed, errors = shown(*flags)
    assert (code, printed, len(errors)) == (2, [], 1)
    assert words in errors[0]
