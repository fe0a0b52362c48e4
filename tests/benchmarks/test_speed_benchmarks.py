"""Speed benchmarks compare like with like: the same prompts, as many tokens, the arithmetic needed. No timings."""

import dataclasses
import io
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import padding, sampling, size
from benchmarks.arithmetic import Group, forward_flops
from benchmarks.models import LARGER, endless, random_policy
from benchmarks.page import drawn
from benchmarks.record import Record
from benchmarks.resident import forget_peak, peak_mib
from benchmarks.step import own as own_step
from benchmarks.step import page as step
from benchmarks.timing import interleaved_per_unit, one_thread
from harness.config.resolve import resolve
from harness.errors import HarnessError, UsageError
from harness.model.packing import Packed, Text, pack_batch
from harness.model.policy import load_policy, write_policy
from harness.rollouts.collect import collect
from tests.harness.agreement import agree
from tests.harness.tiny import cache_as_tiny, context

SMALL = step.Form("small", {}, prompts=4, max_tokens=5, is_free=False, at_least=1.5, steps=1)


def test_the_larger_model_has_the_size_that_its_rows_say() -> None:
    parameters = sum(p.numel() for p in random_policy(**LARGER).model.parameters())
    assert round(parameters / 1e6, 2) == 1.06


def test_a_groups_pairs_are_those_that_a_causal_mask_lets_through() -> None:
    # prompt of 3: 1 + 2 + 3 = 6; behind it 2 tokens see 4 + 5, and 4 tokens 4 + 5 + 6 + 7
    assert Group(3, [2, 4]).pairs == 6 + 9 + 22


def test_the_needed_arithmetic_is_what_linear_layers_do_and_the_attention_beside() -> None:
    policy = random_policy(**LARGER)
    prompts, responses = [[2, 3, 4]] * 2 + [[5, 6]], [[7, 8], [9, 10, 11, 12], [13]]
    batch = pack_batch(prompts, responses, policy.device)
    blind = dataclasses.replace(batch, layout=size.Blind(batch.layout.texts, policy.device))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        policy.logprobs(blind, 1.0)
    groups = [Group(3, [2, 4]), Group(2, [1])]
    attention = 4 * 4 * 128 * sum(group.pairs for group in groups)  # layers, width
    assert forward_flops(policy.model, groups) == counter.get_total_flops() + attention


def test_blind_texts_see_each_token_alone() -> None:
    policy, found = random_policy(), []
    for prompt in ([2, 3, 4], [9, 9, 4]):
        batch = pack_batch([prompt], [[7, 8]], policy.device)
        blind = dataclasses.replace(batch, layout=size.Blind(batch.layout.texts, policy.device))
        found.append([policy.logprobs(one, 1.0)[0].detach() for one in (batch, blind)])
    (seeing, one), (otherwise, same) = found
    assert agree(same, one, "network")
    assert not agree(otherwise, seeing, "network")


def test_exponents_are_slopes_of_logarithms() -> None:
    assert size.exponent([1, 2, 4], [3.0, 6.0, 12.0]) == pytest.approx(1.0)
    assert size.exponent([256, 1024, 4096], [x**1.5 for x in (256, 1024, 4096)]) == pytest.approx(1.5)
    assert math.isnan(size.exponent([1, 2], [0.0, 1.0]))


def test_an_exponent_above_linear_is_not_met() -> None:
    growth = size.Growth("time", "ms", [1.0, 2.2], is_linear=True)
    rows = {row.figure: row for row in size.figures("a, tokens", [1, 2], [growth])}
    assert rows["a, tokens: exponent of time"].verdict == "NOT MET"
    assert rows["a, tokens 2: time"].value == 2.2


def test_growth_is_measured_of_sampling_and_of_the_loss() -> None:
    with one_thread():
        rows = [*size.by_sampled_length((4, 8)), *size.by_loss_length((64, 128))]
    assert sum("exponent" in row.figure for row in rows) == 2 * (4 + 1)
    assert all(row.value > 0 for row in rows if row.figure.endswith("CPU time"))


def test_log_probabilities_are_measured_in_a_process_of_their_own() -> None:
    cost = size.in_own_process(size.Case(length=2048))
    assert cost.parameters == sum(p.numel() for p in random_policy(intermediate_size=256).model.parameters())
    assert cost.cpu_s > 0 < cost.blind_cpu_s
    assert cost.peak_mib > 2048 * 2 * 4 * 3 * 256 / 2**20  # what the layers' wide parts alone keep for backward


def test_a_peak_of_memory_is_seen_and_forgotten() -> None:
    forget_peak()
    before = peak_mib()
    block = torch.ones(2**25)  # 128 MiB
    assert peak_mib() - before > 100
    del block
    forget_peak()
    assert peak_mib() < before + 100


def test_costs_per_unit_are_of_what_each_call_made() -> None:
    calls: list[int] = []

    def run() -> int:
        calls.append(1)
        return 10**9  # units: so many that each is free

    assert interleaved_per_unit({"a": run}, rounds=3)["a"].median < 1e-9
    assert len(calls) == 4


def test_ours_and_generate_draw_as_many_tokens(tmp_path: Path) -> None:
    policy = random_policy()
    write_policy(tmp_path, policy)
    batch = sampling.asked(policy, 2, 5)
    assert sampling.ours(endless(policy), batch)() == batch.rows * 5
    for cache in sampling.CACHES:
        assert sampling.theirs(tmp_path, batch, False, cache)() == batch.rows * 5


def test_ours_and_generate_draw_lengths_from_one_distribution(tmp_path: Path) -> None:
    policy = random_policy()
    write_policy(tmp_path, policy)
    batch = sampling.asked(policy, 32, 30)
    torch.manual_seed(0)
    drawn = [sampling.theirs(tmp_path, batch, True, "dynamic")(), sampling.ours(policy, batch)()]
    # of 256 lengths with a standard deviation of about 11: the difference's is 1 token
    means = [tokens / batch.rows for tokens in drawn]
    assert abs(means[0] - means[1]) < 4
    assert max(means) < 25  # rows do end


def test_sampling_reaches_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIPO_HARNESS_CACHE", str(tmp_path))
    cache_as_tiny(tmp_path)
    found = list(sampling.rows(rounds=1, counts=(1, 2)))
    assert list(drawn(Record("made up", {}, {"sampling": found}))) == ["speed_sampling"]
    rows = {row.figure: row for row in found}
    assert rows["sampling, 64 tokens each: tokens per CPU second, median"].target == "at least 1.7"
    assert rows["sampling, the task's own lengths: tokens per CPU second, median"].target == "at least 2.5"
    assert rows["cache, per row and column"].verdict == "met"


def test_a_run_draws_the_prompts_that_the_peer_is_given() -> None:
    policy = endless(random_policy())
    config = resolve({"prompts_per_step": 4, "group_size": 2, "max_response_tokens": 2, "minibatches": 4})
    for number in (0, 3):
        groups = collect(context(policy, config), number).kept
        assert [group[0].problem.prompt for group in groups] == step.drawn_prompts(number, 4)


def test_own_steps_train_on_every_token_and_say_where_time_goes(tmp_path: Path) -> None:
    spec = json.loads(step.write_spec(SMALL, tmp_path).read_text(encoding="utf-8"))
    stepper = own_step.begun(spec, tmp_path / "run")
    for number in (0, 1):
        answer = stepper.step()
        assert answer["trained_tokens"] == 4 * step.GROUP_SIZE * 5
        assert sum(answer["parts"].values()) == pytest.approx(answer["cpu_s"])
        assert min(answer["parts"].values()) > 0
        groups = [Group(len(prompt), [5] * step.GROUP_SIZE) for prompt in spec["prompts"][number]]
        policy = load_policy(spec["model"])
        assert answer["flops"]["generation"] == forward_flops(policy.model, groups)
        assert answer["flops"]["update"] == 3 * answer["flops"]["log-probabilities"]
    assert len((tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_own_steps_are_taken_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n\n"))
    own_step.main(step.write_spec(dataclasses.replace(SMALL, is_free=True), tmp_path))
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 2
    assert 0 < answers[0]["trained_tokens"] < 4 * step.GROUP_SIZE * 5  # some have ended


def test_children_answer_in_turn_and_their_end_is_told() -> None:
    echo = "import sys\nfor n, _ in enumerate(sys.stdin): print('noise'); print('{\"n\": %d}' % n, flush=True)"
    answers = step.in_turn([[sys.executable, "-c", echo]] * 2, steps=3)
    assert answers == [[{"n": 0}, {"n": 1}, {"n": 2}]] * 2
    with pytest.raises(HarnessError, match=r"expected a step's answer, got its end: no such thing$"):
        step.in_turn([[sys.executable, "-c", "import sys; sys.exit('no such thing')"]], steps=1)


def test_a_step_is_set_beside_the_peers() -> None:
    ours = [{"trained_tokens": 100, "cpu_s": s, "wall_s": 2 * s} for s in (1.0, 2.0, 4.0)]
    theirs = [{"trained_tokens": 50, "cpu_s": s, "wall_s": 2 * s} for s in (1.0, 2.0, 4.0)]
    rows = {row.figure: row for row in step.beside(SMALL, ours, theirs)}
    row = rows["small: trained tokens per CPU second, median"]
    assert (row.value, row.peer, row.ratio, row.verdict) == (50.0, 25.0, 2.0, "met")
    assert rows["small: trained tokens per wall second, best step"].value == 50.0
    assert rows["small: tokens per response"].value == 100 / 32


def test_without_trl_a_step_says_what_to_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "TRL", tmp_path)
    with pytest.raises(UsageError, match=r"run make \.venv-trl/\.ready$"):
        next(step.rows())


def test_padding_of_rows_is_what_the_longest_leaves_of_the_others() -> None:
    texts = [Text(range(2), range(2, 4)), Text(range(2), range(4, 12))]  # 4 and 10 tokens
    layout = Packed(texts, torch.device("cpu"))
    assert padding.row_padding(layout) == pytest.approx(6 / 14)
    assert len(padding.distinct(layout)) == 12


def test_long_responses_are_packed_almost_without_padding() -> None:
    rows = {row.figure: row for row in padding.figures("long", padding.of_long(4))}
    assert rows["padding of attention per real token, long, worst micro-batch"].verdict == "met"
    assert rows["padding of linear layers, long"].value == 0.0


def test_the_demos_rollouts_are_packed_almost_without_padding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIPO_HARNESS_CACHE", str(tmp_path))
    cache_as_tiny(tmp_path)
    with one_thread():
        batches = padding.of_demo(steps=1)
    rows = {row.figure: row for row in padding.figures("demo", batches)}
    assert rows["padding of attention per real token, demo"].verdict == "met"
    share = rows["tokens that linear layers see where a prompt is read once, demo"].value
    assert share < 100
