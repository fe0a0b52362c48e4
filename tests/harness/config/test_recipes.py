"""The presets of the published experiments hold the published values (FIPO paper, Tables 2 and 3, and the scripts)."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from harness.__main__ import main
from harness.config.differences import differences
from harness.config.resolve import flatten, resolve, tree_of
from harness.config.schema import Config, section_of
from tests.harness.command_line import outcome


def published(words: str) -> dict[str, Any]:
    """The values of `name=value` words."""
    return {name: ast.literal_eval(value) for name, value in (word.split("=") for word in words.split())}


EVERYWHERE = published("""
    train_data='dapo-math-17k' eval_data='aime24,aime25' prompts_per_step=512 epochs=1 lr=1e-6 warmup_steps=10
    weight_decay=0.1 grad_clip=1.0 epsilon=0.2 epsilon_high=0.28 delta=10.0 max_prompt_tokens=2048 overlong_factor=1.0
    beta=0.0 averaging='token_mean' wrong_reward=-1.0 temperature=1.0 eval_every=5 eval_temperature=1.0 eval_top_p=0.7
    eval_samples=32 advantage_std_eps=1e-6 log_ratio_clamp=20.0
""")
DAPO_32B = EVERYWHERE | published("""
    model='Qwen/Qwen2.5-32B' loss_type='dapo' prompts_per_round=1536 group_size=16 minibatches=16
    max_response_tokens=20480 overlong_buffer=4096 dynamic_sampling=True max_sampling_rounds=10 unfilled='stop'
    steps=575 sequence_filter=False
""")
FIPO = published("""
    loss_type='fipo' minibatches=8 sequence_filter=True fipo_decay_rate=32.0 fipo_clip_range=0.2
    fipo_filter_in_log_space=True fipo_weight_bound=10.0
""")
FIPO_32B = DAPO_32B | FIPO
FIPO_32B |= {"prompts_per_round": 512 * 4, "fipo_clip_high_only": True, "fipo_safety_threshold": 10.0}
DAPO_7B = DAPO_32B | published("""
    model='Qwen/Qwen2.5-Math-7B' context_tokens=32768 prompts_per_round=512 max_response_tokens=8192
    dynamic_sampling=False steps=360
""")
FIPO_7B = DAPO_7B | FIPO
FIPO_7B |= {"group_size": 32, "max_response_tokens": 10240, "overlong_buffer": 2048}
FIPO_7B |= {"fipo_clip_high_only": False, "fipo_safety_threshold": 3.0}
GRPO = {"loss_type": "grpo", "averaging": "sequence_mean", "epsilon_high": 0.2}
GRPO_7B = DAPO_7B | GRPO | {"overlong_buffer": None}
RECIPES: dict[str, dict[str, Any]] = {
    "recipe/dapo-32b": DAPO_32B,
    "recipe/fipo-32b": FIPO_32B,
    "recipe/dapo-7b": DAPO_7B,
    "recipe/fipo-7b": FIPO_7B,
    "recipe/grpo-7b": GRPO_7B,
    "controlled/fipo-32b": FIPO_32B,
    "controlled/dapo-32b": FIPO_32B | {"loss_type": "dapo", "sequence_filter": False},
    "controlled/fipo-7b": FIPO_7B,
    "controlled/dapo-7b": FIPO_7B | {"loss_type": "dapo", "sequence_filter": False},
    "controlled/grpo-7b": FIPO_7B | GRPO | {"sequence_filter": False},
}


def settings(config: Config) -> dict[str, Any]:
    return flatten(tree_of(config))


@pytest.mark.parametrize("preset", RECIPES)
def test_a_recipe_has_the_published_values(preset: str) -> None:
    found = settings(resolve({}, preset))
    assert {name: found[name] for name in RECIPES[preset]} == RECIPES[preset]


@pytest.mark.parametrize(
    ("ours", "theirs", "confounds"),
    [
        ("recipe/fipo-32b", "recipe/dapo-32b", {"minibatches", "prompts_per_round"}),
        ("recipe/fipo-7b", "recipe/dapo-7b", {"minibatches", "group_size", "max_response_tokens", "overlong_buffer"}),
        ("controlled/fipo-32b", "controlled/dapo-32b", set()),
        ("controlled/fipo-7b", "controlled/dapo-7b", set()),
        ("controlled/fipo-7b", "controlled/grpo-7b", set()),
    ],
)
def test_confounds_of_the_published_comparison(ours: str, theirs: str, confounds: set[str]) -> None:
    found = differences({name: resolve({}, name) for name in (ours, theirs)})
    assert {one.field for one in found if not one.allowed} == confounds
    assert {"loss_type", "fipo_decay_rate", "fipo_clip_range"} <= {one.field for one in found if one.allowed}
    assert all(one.values[theirs] is None for one in found if one.field.startswith("fipo_"))


def test_show_against_prints_each_difference_and_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    shown = outcome(main, ["show", "recipe/fipo-32b", "--against", "recipe/dapo-32b"], capsys)
    assert (shown.exit_code, shown.errors) == (0, [])
    rows = {line.split()[0]: line for line in shown.printed if line.startswith("--")}
    assert re.fullmatch(r"--minibatches +8 +16 +CONFOUND", rows["--minibatches"])
    assert re.fullmatch(r"--fipo_decay_rate +32\.0 +- +the loss's own", rows["--fipo_decay_rate"])
    assert max(map(len, shown.printed)) <= 110
    changed = outcome(main, ["show", "recipe/fipo-32b", "--minibatches", 16, "--against", "recipe/dapo-32b"], capsys)
    assert not any(line.startswith("--minibatches") for line in changed.printed)
    same = outcome(main, ["show", "recipe/fipo-32b", "--against", "controlled/fipo-32b"], capsys)
    assert same.printed == ["recipe/fipo-32b and controlled/fipo-32b: no setting differs"]


def test_a_preset_rests_on_its_base(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('base = "recipe/fipo-32b"\nlr = 2e-6\noverlong_buffer = "none"\n', encoding="utf-8")
    found, base = settings(resolve({}, str(own))), settings(resolve({}, "recipe/fipo-32b"))
    assert {name for name in section_of() if found[name] != base[name]} == {"lr", "overlong_buffer"}
    assert (found["lr"], found["overlong_buffer"]) == (2e-6, None)


@pytest.mark.parametrize("arguments", [["recipe/fipo-33b"], ["recipe/fipo-32b", "--against", "nothing"], ["own.toml"]])
def test_a_preset_or_base_that_does_not_exist_is_one_line(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for base in ('"missing"', "3", '"own.toml"') if arguments == ["own.toml"] else ("",):
        Path("own.toml").write_text(f"base = {base}\n", encoding="utf-8")
        shown = outcome(main, ["show", *arguments], capsys)
        assert (shown.exit_code, shown.printed, len(shown.errors)) == (2, [], 1)
