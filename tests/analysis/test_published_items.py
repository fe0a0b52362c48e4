"""Every table and figure of the papers has an entry, and every command of an entry is one that exists."""

import argparse
import shlex
from pathlib import Path

import pytest

from analysis.cli import add_commands
from analysis.figures.catalogue import PAPER, STUDY
from analysis.figures.paper import FIGURES, arms_for
from analysis.records.study import read
from harness.__main__ import main as harness
from harness.cli import evaluate
from harness.cli.parser import OneLineParser
from harness.tasks.math.files import shipped
from sweeps.__main__ import CONTROLLED, LADDER, add_compare, add_study
from sweeps.comparison import arm_seeds
from sweeps.study.arms import arms_of, check_differences, differences_between, load_family
from sweeps.study.blocks import cells_of, load_design
from tests.analysis.math_folders import config_with, write_math_run
from tests.analysis.published_page import PAGE, items, table, with_table
from tests.harness.command_line import outcome

COMMANDS = [shlex.split(command) for item in items() for command in item.commands]


def of(package: str, *commands: str) -> list[list[str]]:
    """The arguments of every such command, each once."""
    found = {" ".join(words): words for words in COMMANDS if words[:3] == ["python", "-m", package]}
    return [words[3:] for words in found.values() if words[3] in commands]


def test_every_table_and_figure_is_there() -> None:
    names = {item.name for item in items()}
    assert names >= {f"FIPO paper, Table {number}" for number in range(1, 7)}
    assert names >= {f"FIPO paper, Figure {number}" for number in range(1, 13)}
    assert names >= {"FIPO paper, Figures 13 to 16", "DAPO paper, Table 1"}
    assert len(names) == len(items()) == 20
    assert all(item.shows and (item.commands or item.note) for item in items())


def test_what_is_not_reproduced_says_what_there_is_instead() -> None:
    (none,) = [item for item in items() if not item.commands]
    assert none.note.startswith("qualitative, not reproduced: ")
    assert "rollouts/*.parquet" in none.note


def test_the_page_has_the_same_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert table() in page
    assert with_table(page) == page


def test_every_command_is_of_a_kind_that_is_tried_here() -> None:
    tried = [
        *of("analysis", "report", "figures"),
        *of("harness", "train", "show", "evaluate"),
        *of("sweeps", "compare", "ablate", "study"),
    ]
    assert sorted(map(" ".join, tried)) == sorted({" ".join(words[3:]) for words in COMMANDS})


@pytest.mark.parametrize("words", of("analysis", "report", "figures"), ids=" ".join)
def test_a_command_of_the_analysis(words: list[str]) -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_commands(parser)
    given = parser.parse_args(words)
    assert set(getattr(given, "only", [])) <= {*STUDY, *PAPER}


@pytest.mark.parametrize("words", of("harness", "train"), ids=" ".join)
def test_a_training_command_starts_what_it_says(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = outcome(harness, [*words, "--dry_run"], capsys)
    assert (done.exit_code, done.errors) == (0, [])
    assert [line for line in done.printed if line.startswith("8 ranks on this host: ")] == done.printed[-1:]
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("words", of("harness", "show"), ids=" ".join)
def test_a_command_that_prints_settings(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    done = outcome(harness, words, capsys)
    assert (done.exit_code, done.errors) == (0, [])
    assert any("minibatches" in line and "CONFOUND" in line for line in done.printed)


@pytest.mark.parametrize("words", of("harness", "evaluate"), ids=" ".join)
def test_a_command_that_evaluates(words: list[str]) -> None:
    parser = OneLineParser(allow_abbrev=False)
    subparsers = parser.add_subparsers(dest="command", required=True)
    evaluate.add(subparsers)
    given = parser.parse_args(words)
    assert set(given.suite.split(",")) <= set(shipped())


@pytest.mark.parametrize("words", of("sweeps", "compare", "ablate"), ids=" ".join)
def test_a_comparison_has_its_arms(words: list[str]) -> None:
    parser = OneLineParser(allow_abbrev=False)
    subparsers = parser.add_subparsers(dest="command", required=True)
    add_compare(subparsers, "compare", "", CONTROLLED)
    add_compare(subparsers, "ablate", "", LADDER)
    given = parser.parse_args(words)
    family = load_family(given.family)
    arms = arms_of(family, arm_seeds(given), given.preset, {})
    check_differences(differences_between(arms, family), family)
    assert len(arms) == len(arm_seeds(given))


@pytest.mark.parametrize("words", of("sweeps", "study"), ids=" ".join)
def test_a_study_has_its_cells(words: list[str]) -> None:
    parser = OneLineParser(allow_abbrev=False)
    add_study(parser.add_subparsers(dest="command", required=True))
    given = parser.parse_args(words)
    design = load_design(given.design).model_copy(update={"preset": given.preset})
    arms, _ = cells_of(design, load_family(design.family), {})
    configs = [config for arm in arms for config in arm.configs.values()]
    # what the entry says of it
    assert {config.loss.fipo_decay_rate for config in configs if config.loss.fipo_decay_rate} == {2, 8, 32, 128, 512}
    assert {config.loss.fipo_safety_threshold for config in configs if config.loss.loss_type == "fipo"} == {10.0}


@pytest.mark.parametrize("words", [words for words in of("analysis", "figures") if "-seed" in words[1]], ids=" ".join)
def test_runs_named_so_are_the_arms_of_the_figure(words: list[str], tmp_path: Path) -> None:
    training = {command[command.index("--output_dir") + 1]: command for command in of("harness", "train")}
    runs = []
    for folder in words[1 : words.index("--only")]:
        flags = training[folder][1:]
        named = {flag.removeprefix("--"): value for flag, value in zip(flags[::2], flags[1::2], strict=True)}
        changes = {name: float(value) for name, value in named.items() if value.replace(".", "").isdigit()}
        runs.append(write_math_run(tmp_path / Path(folder).name, config_with(**changes), {0: {"a1": ["5"]}}))
    (figure,) = [one for one in FIGURES if words[-1] == f"paper_figure_{one.number}"]
    assert len(arms_for(read(runs), figure)) == len(runs)


def test_what_serves_several_tables_is_made_by_one() -> None:
    """Folders that figures are drawn from are made by some command."""
    made = {words[words.index(flag) + 1] for words in COMMANDS for flag in ("--study", "--output_dir") if flag in words}
    for words in of("analysis", "report", "figures"):
        folders = [word for word in words[1 : words.index("--only") if "--only" in words else None] if "/" in word]
        assert set(folders) <= made
