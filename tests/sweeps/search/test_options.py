"""From flags to a checked search, and what its plan says, worked by hand."""

import json
from pathlib import Path

import pytest

from harness import OneLineParser, UsageError, guessed_seconds
from sweeps.search.command import plan_lines
from sweeps.search.description import check_same, described
from sweeps.search.options import Search, add_search_flags, search_of
from tests.sweeps.family_files import written
from tests.sweeps.search.searching import started

OWN_FAMILY = 'description = "its arm sets nothing"\nallowed = []\n[arms.fipo]\nloss_type = "fipo"\n'


def asked(*flags: str) -> Search:
    """The search of these flags, as the command line reads them."""
    parser = OneLineParser(allow_abbrev=False)
    add_search_flags(parser)
    return search_of(parser.parse_args(list(flags)))


def test_runs_tokens_and_time_add_up(tmp_path: Path) -> None:
    flags = ["--losses", "grpo,dapo", "--trials", "4", "--seeds", "3", "--report_seeds", "5"]
    search = asked(*flags, "--study", str(tmp_path / "s"), "--token_budget", "100000")
    lines = "\n".join(plan_lines(search, ended=2, slots=2))
    runs = (2 * 4 - 2) * 3 + 2 * 5
    assert "grpo, dapo: 4 trials each by tpe x 3 seeds = 24 runs of at most 20 steps, 6 of them ended before" in lines
    assert "winners: run again on 5 fresh seeds each, on the reporting prompts: 10 runs" in lines
    # the budget, and a step of 32 prompts, 8 responses, 72 tokens and as many rounds as a step may have
    config = search.typical_config()
    step = 32 * 8 * 72 * config.rollout.max_sampling_rounds
    assert f"tokens: at most {runs * (100_000 + step) / 1e6:.3g} million generated" in lines
    seconds = guessed_seconds(config)
    assert seconds
    assert f"time: about {runs * seconds / 2 / 60:.0f} min with 2 at a time" in lines
    other = asked("--study", str(tmp_path / "s"), "--model", "owner/name")
    assert "time: unknown until the first trial ends with 1 at a time" in plan_lines(other, ended=0, slots=1)


def test_losses_are_given_the_same(tmp_path: Path) -> None:
    search = asked("--losses", "grpo,dapo,fipo", "--study", str(tmp_path / "s"))
    configs = [search.config(loss, next(search.spaces[loss].corners()), 1000) for loss in search.losses]
    assert {config.run.token_budget for config in configs} == {20 * 32 * 8 * 72}
    assert {config.run.steps for config in configs} == {20}
    assert {config.evaluation.eval_split for config in configs} == {"tune"}
    assert set(search.tuning_seeds).isdisjoint(range(search.report_seeds))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--losses", "grpo,grpo"), "--losses: expected one or more different losses"),
        (("--losses", ","), "--losses: expected one or more different losses"),
        (("--losses", "ppo"), "family 'controlled': expected arms among grpo, dapo, fipo"),
        (("--trials", "0"), "--trials: expected greater than or equal to 1, got '0'"),
        (("--seeds", "many"), "--seeds: expected an integer, got"),
        (("--report_seeds", "1001"), "--report_seeds: expected less than or equal to 1000, got '1001'"),
        (("--sampler", "cma"), "--sampler: expected 'tpe', 'qmc' or 'random', got 'cma'"),
        (("--space", "decay"), "--space: expected one of dapo, fipo, grpo, rivals, shared or a TOML file, got 'decay'"),
        (("--lr", "1e-3"), "--lr is searched, or set by the search itself: drop it"),
        (("--seed", "3"), "--seed is set by the command itself"),
        (("--epsilon_high", "0.3"), "--epsilon_high is set by arm 'fipo' of family 'controlled' (0.28)"),
        (("--family", "own"), "--family: expected one of controlled, controlled-32b, controlled-7b, ladder, recipe, "),
        (("--family", "controlled-7b"), "expected arms without presets of their own, got one of 'fipo'"),
        (("--preset", "nothing"), "--preset: expected one of controlled/dapo-32b"),
        (("--max_hours", "nan"), "--max_hours: expected a finite number, got 'nan'"),
        (("--limit_collapse", "7"), "--limit_collapse: expected less than or equal to 1, got '7'"),
        (("--slots", "-1"), "--slots: expected greater than or equal to 0, got '-1'"),
        (("--controls", "blume"), "that are like a loss searched (fipo), got 'blume'"),
        (("--controls", "blame"), "that are like a loss searched (fipo), got 'blame'"),
        (("--controls", "fipo"), "that are like a loss searched (fipo), got 'fipo'"),
        (("--space", "fipo", "--losses", "dapo"), "fipo_clip_range does nothing under loss 'dapo': search it apart"),
    ],
)
def test_what_does_not_fit_together_is_one_line(tmp_path: Path, flags: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        asked("--study", str(tmp_path / "s"), *flags)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "in the searched range" not in str(raised.value)
    assert not (tmp_path / "s").exists()


def test_a_range_that_reaches_what_is_not_valid_is_refused_before_anything_starts(tmp_path: Path) -> None:
    file = tmp_path / "wide.toml"
    file.write_text("[parameters]\nfipo_clip_range = { log = [0.1, 2.0] }\n", encoding="utf-8")
    flags = ["--space", str(file), "--study", str(tmp_path / "s")]
    asked(*flags)
    file.write_text(
        "[parameters]\nfipo_clip_range = { log = [0.1, 2.0] }\nfipo_clip_high_only = { fixed = false }\n",
        encoding="utf-8",
    )
    with pytest.raises(
        UsageError, match=r"--fipo_clip_range: .*below 1 when two-sided, got 2.0 \(in the searched range"
    ):
        asked(*flags, "--family", written(tmp_path, OWN_FAMILY))


def test_a_search_is_itself_however_its_settings_are_spelled(tmp_path: Path) -> None:
    first, again = (described(asked("--study", str(tmp_path), "--steps", steps)) for steps in ("2", "02"))
    (tmp_path / "study.json").write_text(json.dumps(first), encoding="utf-8")
    assert check_same(again, tmp_path) == first


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@h/db", "postgresql://u@h/db"),
        ("postgresql://u@h/db?password=secret&x=1", "postgresql://u@h/db?password=***&x=1"),
        ("sqlite:///runs/x.db", "sqlite:///runs/x.db"),
    ],
)
def test_passwords_are_neither_shown_nor_written(tmp_path: Path, url: str, shown: str) -> None:
    search = asked("--study", str(tmp_path / "s"), "--storage", url)
    assert described(search)["storage"] == shown


@pytest.mark.parametrize("flags", ["--storage nope://x", "--storage sqlite:////proc/x.db", "--tracking_uri nope://x"])
def test_a_refused_search_makes_no_folder(tmp_path: Path, flags: str) -> None:
    outcome = started(["search", "--study", str(tmp_path / "a/s"), *flags.split()])
    assert (outcome.exit_code, outcome.printed, len(outcome.errors)) == (2, [], 1)
    assert flags.split()[0] in outcome.errors[0]
    assert list(tmp_path.iterdir()) == []


def test_a_refused_search_leaves_a_foreign_folder_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine", encoding="utf-8")
    outcome = started(["search", "--study", str(tmp_path), "--tracking_uri", "none"])
    assert (outcome.exit_code, outcome.printed, len(outcome.errors)) == (2, [], 1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_limits_are_exceeded_above_0() -> None:
    facts = {"response_tokens": 30.0, "truncated_share": 0.25, "start_accuracy": 0.4, "values": [0.5, 0.1]}
    limits = ["--limit_response_tokens", "32", "--limit_truncated_share", "0.25"]
    assert asked(*limits).excess(facts) == {
        "response_tokens": -2.0,
        "truncated_share": 0.0,
        "collapse": pytest.approx(0.1),  # the worst seed's .1 against half of .4
    }
    assert asked().excess(facts).keys() == {"collapse"}
