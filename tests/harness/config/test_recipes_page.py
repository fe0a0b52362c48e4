"""The commands of docs/recipes.md: those that can be carried out are, of the others every flag and name is checked."""

import re
import shlex
from pathlib import Path

import huggingface_hub
import pytest

from harness.__main__ import main
from harness.config.resolve import PRESETS
from tests.harness.command_line import outcome

PAGE = (Path(__file__).parents[3] / "docs" / "recipes.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line) for line in re.findall(r"^(?:python|torchrun .*) -m harness (.*)$", PAGE, re.MULTILINE)]
DRY = [command for command in COMMANDS if command[0] in ("show", "plan", "train")]


def test_the_page_has_commands() -> None:
    assert {command[0] for command in COMMANDS} == {"show", "plan", "train", "evaluate"}
    assert len(DRY) >= 8


@pytest.mark.parametrize("command", DRY, ids=" ".join)
def test_a_command_of_the_page_works(
    command: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dry = ["--dry_run"] if command[0] == "train" and "--dry_run" not in command else []
    shown = outcome(main, [*command, *dry], capsys)
    assert (shown.exit_code, shown.errors) == (0, [])
    assert shown.printed


def test_evaluate_wants_what_it_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (found,) = [outcome(main, command, capsys) for command in COMMANDS if command not in DRY]
    assert (found.exit_code, len(found.errors)) == (2, 1)
    assert "AIME-2024:data/aime-2024.parquet" in found.errors[0]


def test_every_preset_is_on_the_page() -> None:
    names = {str(path.relative_to(PRESETS).with_suffix("")) for path in PRESETS.glob("*/*.toml")}
    named = set(re.findall(r"`((?:cpu|recipe|one-gpu|one-node)/[\w.-]+)`", PAGE))
    assert named == {name for name in names if not name.startswith("controlled/")}
