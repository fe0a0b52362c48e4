"""What ranks send each other, and where they listen for it."""

import math
import os
from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic_core import to_json

from harness.algorithm.correction import SamplerGap
from harness.algorithm.loss_metrics import ByResponse
from harness.algorithm.placebo import Row
from harness.backends.ranks import Ranks, read
from harness.backends.rendezvous import STORE, Place, choose_interfaces, take_gpu
from harness.errors import HarnessError, UsageError
from harness.loop import ranks_of
from harness.model.policy import Policy
from harness.rollouts.collect import merged
from harness.rollouts.held_out import Answer
from tests.harness.responses import four_groups
from tests.harness.tiny import small_config

HARD = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 0.1 + 0.2, 1e22]


def bits(value: Any) -> str:
    """A value in full, with NaN equal to itself and -0.0 other than 0.0."""
    return repr(value)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        *((number, float) for number in HARD),
        (True, bool),
        ([], list[str]),
        (["stopped by SIGTERM\n\0\u2028\U0001f600"], list[str]),
        ((HARD, []), tuple[list[float], list[float]]),
        (SamplerGap(3, math.nan, 1.5, math.inf, -0.0), SamplerGap),
        ([Row((4, "12,3", 0), HARD, [1.0])], list[Row]),
        (({"a": 1.0, "": math.nan}, {}, [(("12,3", 1), HARD)]), tuple[dict[str, float], dict[str, float], ByResponse]),
        ([[Answer(1, "x", 0, "\\boxed{1}", None, False, "unchecked", 3, True, False)]], list[list[Answer]]),
    ],
)
def test_what_a_rank_sends_arrives_bit_for_bit(value: Any, kind: Any) -> None:
    assert bits(read(to_json(value), kind)) == bits(value)


class Echo(Ranks):
    """Two ranks, of which the other sends what this one does."""

    def gather_bytes(self, own: bytes) -> list[memoryview]:
        assert b"5e-324" not in own  # log-probabilities are not sent as text
        return [memoryview(own), memoryview(own)]


def test_a_step_of_responses_arrives_as_it_was(random_policy: Policy) -> None:
    groups = [
        [
            replace(one, tokens=array("i", one.tokens), sampler_logprobs=array("d", (9 * HARD)[: len(one.tokens)]))
            for one in group
        ]
        for group in four_groups(random_policy)
    ]
    groups[1][2] = replace(groups[1][2], text="é\0\ud7ff", tokens=array("i"), sampler_logprobs=array("d"))
    found = merged(groups, Echo(0, 2))
    assert bits(found) == bits([group for group in groups for _ in range(2)])
    assert merged([], Echo(0, 2)) == []


def test_what_has_another_type_is_refused_in_a_line() -> None:
    with pytest.raises(HarnessError, match=r"expected another rank to send list\[float\], got 1 values") as raised:
        read(b'[1.5, "nan"]', list[float])
    assert "\n" not in str(raised.value)


def test_an_interface_that_the_user_names_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(0, 2, 2, "127.0.0.1", is_one_host=True)
    monkeypatch.setattr(os, "environ", {"NCCL_SOCKET_IFNAME": "mine"})
    choose_interfaces(place)
    assert os.environ["GLOO_SOCKET_IFNAME"] in ("lo", "lo0")
    assert os.environ["NCCL_SOCKET_IFNAME"] == "mine"
    monkeypatch.setattr(os, "environ", {"GLOO_SOCKET_IFNAME": "mine"})
    choose_interfaces(place)
    assert os.environ == {"GLOO_SOCKET_IFNAME": "mine", "NCCL_SOCKET_IFNAME": os.environ["NCCL_SOCKET_IFNAME"]}


def test_on_a_gpus_host_the_cpus_ranks_meet_through_gloo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    place = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", STORE: str(tmp_path / "store")}
    monkeypatch.setattr(os, "environ", place)
    try:
        ranks_of(small_config(backend="deepspeed", device="cpu"))
        assert torch.distributed.get_backend() == "gloo"
    finally:
        torch.distributed.destroy_process_group()


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=r"^expected a GPU for each of the 2 processes on this host, got 1: lower"):
        take_gpu()
