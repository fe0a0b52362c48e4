"""docs/published.md has a row for every table and figure of the papers, and every command of a row exists."""

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.cli import add_commands
from analysis.figures.catalogue import PAPER, STUDY
from analysis.figures.paper import arms_for
from analysis.figures.training import PAPER as OF_THE_PAPER
from analysis.records.study import read
from harness.__main__ import main as harness
from harness.cli import evaluate
from harness.cli.parser import OneLineParser
from harness.tasks.math.files import SHIPPED
from sweeps.__main__ import CONTROLLED, LADDER, add_compare, add_study
from sweeps.comparison import arm_seeds
from sweeps.study.arms import arms_of, check_differences, differences_between, load_family
from sweeps.study.blocks import load_design, planned
from tests.analysis.math_folders import config_with, write_math_run
from tests.harness.command_line import outcome

PAGE = Path(__file__).parents[2] / "docs" / "published.md"
HEAD = "| published | what it shows | what makes ours |\n|---|---|---|\n"
# name: (what it shows, the commands that make ours in order and what a reader must know of them)
ROWS = {
    name: (shows, made.split("<br>"))
    for row in PAGE.read_text(encoding="utf-8").split(HEAD)[1].split("\n\n")[0].splitlines()
    for name, shows, made in [row.strip("| ").split(" | ")]
}
COMMANDS = [shlex.split(one.strip("`")) for _, made in ROWS.values() for one in made if one.startswith("`python -m ")]


def of(package: str, *commands: str) -> list[list[str]]:
    """The arguments of every such command, each once."""
    found = {" ".join(words): words for words in COMMANDS if words[:3] == ["python", "-m", package]}
    return [words[3:] for words in found.values() if words[3] in commands]


def parsed(words: list[str], *add: Callable[[Any], object]) -> argparse.Namespace:
    """The words as a parser with these commands takes them."""
    parser = OneLineParser(allow_abbrev=False)
    subparsers = parser.add_subparsers(dest="command", required=True)
    for one in add:
        one(subparsers)
    return parser.parse_args(words)


def test_every_table_and_figure_has_a_row() -> None:
    wanted = [f"FIPO paper, Table {number}" for number in range(1, 7)]
    wanted += [f"FIPO paper, Figure {number}" for number in range(1, 13)]
    assert set(ROWS) == {*wanted, "FIPO paper, Figures 13 to 16", "DAPO paper, Table 1"}
    assert all(shows and made for shows, made in ROWS.values())
    (none,) = [made for _, made in ROWS.values() if not made[0].startswith("`python -m ")]
    assert none[0].startswith("qualitative, not reproduced: ")


def test_every_command_is_of_a_kind_that_is_tried_here() -> None:
    tried = [
        *of("analysis", "report", "figures"),
        *of("harness", "train", "show", "evaluate"),
        *of("sweeps", "compare", "ablate", "study"),
    ]
    assert sorted(map(" ".join, tried)) == sorted({" ".join(words[3:]) for words in COMMANDS})


def test_figures_are_drawn_by_names_that_exist_from_folders_that_a_command_makes() -> None:
    made = {words[words.index(flag) + 1] for words in COMMANDS for flag in ("--study", "--output_dir") if flag in words}
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_commands(parser)
    for words in of("analysis", "report", "figures"):
        given = parser.parse_args(words)
        assert set(getattr(given, "only", [])) <= {*STUDY, *PAPER}
        assert {str(folder) for folder in given.folders if "/" in str(folder)} <= made


@pytest.mark.parametrize("words", of("harness", "train", "show"), ids=" ".join)
def test_a_training_command_starts_what_it_says(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = outcome(harness, [*words, "--dry_run"] if words[0] == "train" else words, capsys)
    assert (done.exit_code, done.errors) == (0, [])
    if words[0] == "train":
        assert [line for line in done.printed if line.startswith("8 ranks on this host: ")] == done.printed[-1:]
    else:
        assert any("minibatches" in line and "CONFOUND" in line for line in done.printed)
    assert list(Path().iterdir()) == []


def test_an_evaluation_is_on_benchmarks_that_are_shipped() -> None:
    for words in of("harness", "evaluate"):
        given = parsed(words, evaluate.add)
        assert set(given.eval_data.split(",")) <= set(SHIPPED)


@pytest.mark.parametrize("words", of("sweeps", "compare", "ablate"), ids=" ".join)
def test_a_comparison_has_its_arms(words: list[str]) -> None:
    families = {"compare": CONTROLLED, "ablate": LADDER}
    given = parsed(words, lambda commands: add_compare(commands, words[0], "", families[words[0]]))
    family = load_family(given.family)
    arms = arms_of(family, arm_seeds(given), given.preset, {})
    check_differences(differences_between(arms, family), family)
    assert len(arms) == len(arm_seeds(given))


@pytest.mark.parametrize("words", of("sweeps", "study"), ids=" ".join)
def test_a_study_has_its_cells(words: list[str]) -> None:
    given = parsed(words, add_study)
    design = load_design(given.design).model_copy(update={"preset": given.preset})
    arms, _ = planned(design, load_family(design.family), {})
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
    (figure,) = [one for one in OF_THE_PAPER if words[-1] == one.name]
    assert len(arms_for(read(runs), figure)) == len(runs)
