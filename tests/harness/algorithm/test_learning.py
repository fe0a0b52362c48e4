"""Runs that cannot learn say so, and end."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import transformers

from harness.algorithm.correction import SamplerGap, check_sampler_agrees
from harness.algorithm.learning import can_learn_from, is_hopeless, likely_reason
from harness.config.schema import Config
from harness.errors import HarnessError
from harness.loop import Beginning, train
from harness.model.policy import Policy, load_policy
from harness.resume import resume
from harness.rollouts.collect import Group, Rollouts
from harness.tasks.task import Grade
from tests.harness import runs
from tests.harness.backends.pairings import stop_after
from tests.harness.model.networks import LONG_ROPE, change_json, save_network
from tests.harness.responses import four_groups
from tests.harness.tasks import math_material as material
from tests.harness.tiny import small_config


def graded(policy: Policy, right: list[bool], cut: bool = False) -> Group:
    """A group of four, of which those are right that are listed as such."""
    drawn = four_groups(policy)[0]
    return [
        dataclasses.replace(one, grade=Grade(outcome), reward=1.0 if outcome == "right" else -1.0, truncated=cut)
        for one, outcome in zip(drawn, ("right" if correct else "wrong" for correct in right), strict=True)
    ]


def reason(*groups: Group, **flags: Any) -> str:
    return likely_reason(Rollouts([list(groups)], list(groups), 0), small_config(**flags))


def test_a_step_without_signal_names_the_settings_to_look_at(random_policy: Policy) -> None:
    right, wrong = (graded(random_policy, [correct] * 4) for correct in (True, False))
    cut = graded(random_policy, [False] * 4, cut=True)
    for groups, settings in (
        ([cut], ["--max_response_tokens 24", "--prompt_template"]),
        ([wrong], ["--prompt_template", "--max_response_tokens", "rollouts/"]),
        ([right], ["--task", "--temperature"]),
        ([right, wrong], ["--group_size"]),
    ):
        assert not can_learn_from(groups, small_config())
        assert [name for name in settings if name not in reason(*groups)] == []
    assert "--answer_format" not in reason(wrong)
    assert "--answer_format" in reason(wrong, task="math")  # only questions have one
    assert "--train_data" in reason(right, task="math")


def test_a_first_step_without_a_right_answer_is_told_although_rewards_differ(random_policy: Policy) -> None:
    """Under an overlong penalty rewards differ without a right answer; a lenient reading says whether it is format."""
    wrong, mixed = graded(random_policy, [False] * 4), graded(random_policy, [True, False, False, False])
    assert is_hopeless(wrong)
    assert is_hopeless(graded(random_policy, [True] * 4, cut=True))
    assert not is_hopeless(mixed)
    lenient = [dataclasses.replace(one, grade=Grade("wrong", None, "no answer", lenient=True)) for one in wrong]
    assert "(4 if their answers are read leniently)" in reason(lenient)


def test_what_there_is_to_learn_from(random_policy: Policy) -> None:
    wrong, mixed = graded(random_policy, [False] * 4), graded(random_policy, [True, False, False, False])
    assert can_learn_from([wrong, mixed], small_config())
    penalized = [dataclasses.replace(wrong[0], reward=-1.5), *wrong[1:]]  # an overlong penalty alone
    assert can_learn_from([penalized], small_config())
    cut = graded(random_policy, [True, False, False, False], cut=True)
    assert can_learn_from([cut], small_config())
    assert not can_learn_from([cut], small_config(overlong_filter=True))  # stands in no loss


def hopeless(model: str, **changes: Any) -> Config:
    """A run all of whose responses are cut: two tokens hold no end token."""
    shape = {"max_response_tokens": 2, "steps": 4, "eval_every": 4, "give_up_after": 3, "checkpoint_every": 1}
    return small_config(model, **shape | changes)


@pytest.mark.train
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_run_that_cannot_learn_says_so_at_once_and_gives_up(
    dynamic: bool, model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = hopeless(model_folder, dynamic_sampling=dynamic)
    with pytest.raises(HarnessError, match=r"gave up after 3 steps: .*--max_response_tokens"):
        train(config, tmp_path / "run", runs.ignore)
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note:")]
    assert len(notes) == 1
    assert "the first step has nothing to learn from: " in notes[0]
    assert "responses were cut" in notes[0]
    status = runs.read_json(tmp_path / "run" / "status.json")
    assert (status["state"], status["reason_code"]) == ("failed", "gave_up")
    assert (status["steps_done"], status["exit_code"]) == (3, 1)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.train
def test_it_gives_up_where_it_would_have_without_a_stop(model_folder: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="stopped after 2 steps"):
        train(hopeless(model_folder), tmp_path / "run", stop_after(2))
    with pytest.raises(HarnessError, match="gave up after 3 steps"):
        resume(tmp_path / "run", runs.ignore)


@pytest.mark.train
@pytest.mark.parametrize("changes", [{"give_up_after": None}, {"control": "random_reward"}])
def test_it_goes_on_where_it_is_told_to_or_something_was_learned(
    changes: dict[str, Any], model_folder: str, tmp_path: Path
) -> None:
    run = runs.trained(hopeless(model_folder, **changes), tmp_path / "run")
    assert runs.read_json(run.path / "status.json")["state"] == "finished"


def test_a_sampler_that_is_not_the_trainer_is_refused() -> None:
    config = small_config()
    low = config.model_copy(update={"model": config.model.model_copy(update={"dtype": "bfloat16"})})
    apart = SamplerGap(tokens=1000, absolute=20.0, largest=2.5)
    for gap in (SamplerGap(), SamplerGap(tokens=1, absolute=float("nan"))):  # the update names what is not finite
        assert not check_sampler_agrees(gap, config)
    assert check_sampler_agrees(SamplerGap(tokens=1000, absolute=0.01, largest=0.005), config)
    assert check_sampler_agrees(apart, low)
    assert check_sampler_agrees(apart, small_config(sync_tolerance=0.03))
    with pytest.raises(HarnessError, match="expected the sampler's log-probabilities of the responses to be"):
        check_sampler_agrees(apart, config)


@pytest.mark.train
def test_it_is_held_against_the_trainer_in_the_first_step(tmp_path: Path) -> None:
    """Of a model as transformers loads it, whose rotary frequencies change once a text passes 130 tokens."""
    model = save_network(tmp_path / "long", "longrope")
    changed = LONG_ROPE | {"original_max_position_embeddings": 130}
    change_json(Path(model) / "config.json", rope_parameters=changed, original_max_position_embeddings=130)
    network = transformers.AutoModelForCausalLM.from_pretrained(model).eval()
    own = Beginning(dataclasses.replace(load_policy(model), model=network))
    data = {"task": "math", **material.data_files(tmp_path), "max_prompt_tokens": 400}
    with pytest.raises(HarnessError, match="expected the sampler's log-probabilities"):
        train(small_config(model, **data, max_response_tokens=64), tmp_path / "run", runs.ignore, beginning=own)
    assert not (tmp_path / "run" / "rollouts").exists()
