"""The benchmarks compare like with like: the same values, prompts, lengths and arithmetic. No timing is asserted."""

import dataclasses
import io
import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.arithmetic import Group, forward_flops
from benchmarks.models import LARGER, TINY, endless, random_policy
from benchmarks.step import own
from benchmarks.step import report as step
from harness.config.resolve import resolve
from harness.errors import HarnessError, UsageError
from harness.model.policy import load_policy
from harness.rollouts.collect import collect
from tests.harness.tiny import context

SMALL = step.Form("small", TINY, prompts=4, max_tokens=5, is_free=False, target=1.5, warm=1, steps=1)


@pytest.mark.parametrize(("shape", "millions"), [(TINY, 0.1008), (LARGER, 1.06)])
def test_a_model_has_the_size_that_its_rows_say(shape: dict[str, object], millions: float) -> None:
    with torch.device("meta"):
        found = sum(p.numel() for p in random_policy(shape, "meta").model.parameters())
    assert found / 1e6 == pytest.approx(millions, rel=5e-3)


def test_the_needed_arithmetic_is_that_of_linear_layers_and_of_causal_attention() -> None:
    # prompt of 3: 1 + 2 + 3 = 6; behind it 2 tokens see 4 + 5, and 4 tokens 4 + 5 + 6 + 7
    assert Group(3, [2, 4]).pairs == 6 + 9 + 22
    model = random_policy(LARGER).model
    body = 4 * (4 * 128 * 128 + 3 * 128 * 512)  # layers of attention's four matrices and the MLP's three
    head = 128 * model.config.vocab_size
    assert forward_flops(model, [Group(3, [2, 4])]) == 2 * body * 9 + 2 * head * 6 + 4 * 4 * 128 * 37


def test_a_run_draws_the_prompts_that_trl_is_given() -> None:
    policy = endless(random_policy(TINY))
    config = resolve(step.settings_of(SMALL, "tiny"))
    drawn = step.drawn_prompts(config, policy, 4)
    for number in (0, 3):
        groups = collect(context(policy, config), number).kept
        assert [group[0].problem.prompt for group in groups] == drawn[number]


def test_trl_must_have_read_the_same_prompts() -> None:
    ours, theirs = ([{"prompt_tokens": tokens} for tokens in each] for each in ((80, 96), (80, 97)))
    step.check_prompts(ours, ours)
    with pytest.raises(HarnessError, match=r"got prompts of \[80, 97\] tokens beside our \[80, 96\]"):
        step.check_prompts(ours, theirs)


def test_own_steps_train_on_every_token_and_say_where_time_goes(tmp_path: Path) -> None:
    spec = json.loads(step.write_spec(SMALL, tmp_path).read_text(encoding="utf-8"))
    policy = load_policy(spec["settings"]["model"])
    stepper = own.begun(spec, tmp_path / "run")
    for number in (0, 1):
        answer = stepper.step()
        assert answer["trained_tokens"] == 4 * step.GROUP_SIZE * 5
        assert sum(answer["phases"].values()) == pytest.approx(answer["cpu_s"])
        groups = [Group(len(policy.encode(one)), [5] * step.GROUP_SIZE) for one in spec["prompts"][number]]
        assert answer["prompt_tokens"] == sum(group.prompt for group in groups) * step.GROUP_SIZE
        assert answer["flops"]["generation"] == forward_flops(policy.model, groups)
        assert answer["flops"]["update"] == 3 * answer["flops"]["generation"]
        assert answer["flops"]["log-probabilities"] == forward_flops(policy.model, groups[1:])
    assert len((tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_own_steps_are_taken_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n\n"))
    own.main(step.write_spec(dataclasses.replace(SMALL, is_free=True), tmp_path))
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert len(answers) == 2
    assert 0 < answers[0]["trained_tokens"] < 4 * step.GROUP_SIZE * 5  # some have ended


def test_children_answer_in_turn_and_their_end_is_told() -> None:
    echo = "import sys\nfor n, _ in enumerate(sys.stdin): print('noise'); print('{\"n\": %d}' % n, flush=True)"
    assert step.in_turn([[sys.executable, "-c", echo]] * 2, steps=3) == [[{"n": 0}, {"n": 1}, {"n": 2}]] * 2
    with pytest.raises(HarnessError, match=r"expected a step's answer of .*no such thing.*, got its end"):
        step.in_turn([[sys.executable, "-c", "import sys; sys.exit('no such thing')"]], steps=1)


def test_without_trl_a_step_says_what_to_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "TRL", tmp_path)
    with pytest.raises(UsageError, match=r"run make \.venv-trl/\.ready$"):
        next(step.rows())
