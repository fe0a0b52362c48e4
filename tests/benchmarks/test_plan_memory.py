"""The whole loop on a CPU, metered tensor by tensor: what `harness plan` says of it is within the promised share."""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.plan_memory import FLAGS, PRESET, main, rows
from benchmarks.scale import SMALL, write_model
from benchmarks.table import printed
from harness.config.resolve import resolve
from harness.run.initial_model import initial_policy
from tests.harness.command_line import outcome
from tests.harness.plan.live_memory import LiveMemory


class CpuMeter:
    """By what LiveMemory has seen."""

    def __init__(self, live: LiveMemory) -> None:
        self.live = live

    def now(self) -> int:
        return self.live.now

    def peak(self) -> int:
        peak, self.live.peak = self.live.peak, self.live.now
        return peak


@pytest.mark.train
@pytest.mark.parametrize("changes", [{}, {"gradient_checkpointing": False, "lora_rank": 8}, {"beta": 0.1}])
def test_the_plan_is_what_the_loop_takes(changes: dict[str, Any], tmp_path: Path) -> None:
    write_model(tmp_path / "model", SMALL)
    small = {"steps": 3, "prompts_per_step": 8, "max_response_tokens": 64, "overlong_buffer": 8}
    flags = FLAGS | small | {"model": str(tmp_path / "model")}
    config = resolve(flags | changes, preset=PRESET)
    policy = initial_policy(config)
    live = LiveMemory(policy.model.parameters())
    with live:
        found = list(rows(config, CpuMeter(live), policy))
    verdicts = {row.figure: row.verdict for row in found if row.target}
    assert set(verdicts.values()) == {"met"}, printed(found)
    assert len(verdicts) == 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_refuses_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    found = outcome(main, [], capsys)
    assert (found.exit_code, found.printed, len(found.errors)) == (2, [], 1)
    assert "expected a CUDA device" in found.errors[0]
