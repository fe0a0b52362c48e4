"""The commands of docs/cluster.md, each by its dry run."""

import re
import shlex
from pathlib import Path

import pytest

from harness.__main__ import main
from tests.harness.command_line import outcome

PAGE = (Path(__file__).parents[3] / "docs" / "cluster.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^.*python -m harness (train .*)$", PAGE, re.MULTILINE)


def test_the_page_has_commands() -> None:
    assert len(COMMANDS) == 5


def test_torchrun_takes_its_command_apart_as_it_is_meant() -> None:
    """Its parser takes --nproc for its own, and for an ambiguous one, unless it is told where they end."""
    from torch.distributed.run import parse_args

    (words,) = map(shlex.split, re.findall(r"^torchrun (.*)$", PAGE, re.MULTILINE))
    found = parse_args(words)
    assert (found.module, found.training_script) == (True, "harness")
    assert found.training_script_args == ["train", "--backend", "deepspeed", "--nproc", "8"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_starts_what_it_says(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hosts").write_text("node1 slots=8\nnode2 slots=8\n", encoding="utf-8")
    code, printed, errors = outcome(main, [*shlex.split(command), "--dry_run"], capsys)
    assert (code, errors) == (0, [])
    ranks = [line for line in printed if line.startswith("rank ")]
    expected = 16 if "--hostfile" in command else 8 if "--nproc 8" in command else 0
    assert len(ranks) == expected
    assert ranks or printed[0].startswith("one process on this host: ")
    for line in ranks:
        assert f"WORLD_SIZE={expected}" in line
        assert "MASTER_PORT=" in line
    assert sum("on node2: ssh " in line for line in ranks) == (8 if "--hostfile" in command else 0)
    assert list(Path().iterdir()) == [Path("hosts")]
