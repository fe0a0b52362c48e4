"""The whole loop on a pretended GPU: the CPU's run to the last bit, and no tensor left behind on the host."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.algorithm.metrics import Metrics
from harness.algorithm.state import move_to_gpu
from harness.errors import Stopped
from harness.loop import train
from harness.model.policy import Policy
from harness.resume import resume
from harness.run.environment import GPU, differences_here
from harness.run.history import read_history
from tests.harness import runs
from tests.harness.pretended_gpu import pretended_gpu
from tests.harness.tiny import SCAFFOLD, small_config

CASES: dict[str, dict[str, Any]] = {
    "dapo": {"loss_type": "dapo", "control": "blame", "eval_top_p": 0.7, **SCAFFOLD},
    "fipo": {"loss_type": "fipo", "sequence_filter": True, "beta": 0.05, **SCAFFOLD},
    "lora": {"loss_type": "fipo", "lora_rank": 4, "dtype": "bfloat16", "temperature": 1.5},
    "placebo": {"loss_type": "fipo", "fipo_placebo": "shuffle_batch", "dtype": "bfloat16", "temperature": 1.5}
    | {"gradient_checkpointing": True, "micro_batch_size": 4},
}
# Operators that CUDA has no deterministic kernel for, and so refuses, by torch's list; but for cumsum, which it still
# names although its kernel is deterministic since pull request 140887.
REFUSED = re.compile(
    r"((avg_pool3d|_adaptive_avg_pool\w*|adaptive_max_pool2d\w*|fractional_max_pool\w*|upsample_\w*|reflection_pad\w*"
    r"|_ctc_loss|grid_sampler\w*)_backward|max_unpool\w*|nll_loss\w*|_embedding_bag\w*|put_?|histc|bincount|(nan)?median"
    r"|scatter_reduce_?)\."
)
MAY_STAY = ["harness/rollouts/decoding.py"] * 2  # indices alone, which CUDA takes from the host as well


def stop_in_the_second(metrics: Metrics) -> None:
    if metrics["step"] == 1:  # after a checkpoint
        raise Stopped("a test")


@pytest.mark.train
@pytest.mark.parametrize("case", CASES)
def test_a_run_on_a_gpu_stopped_and_resumed_is_the_cpus(case: str, model_folder: str, tmp_path: Path) -> None:
    config = small_config(model_folder, checkpoint_every=1, **CASES[case])
    without = config.model_copy(update={"model": config.model.model_copy(update={"device": "cpu"})})
    on_cpu = runs.trained(without, tmp_path / "cpu")
    with pretended_gpu() as found:
        with pytest.raises(Stopped):
            train(config, tmp_path / "gpu", stop_in_the_second)
        on_gpu = resume(tmp_path / "gpu", runs.ignore)
    (resumed,) = (on_gpu.path / "resumes.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(resumed)["differences"] == {}
    differences = differences_here(read_history(on_gpu.path).environment, without)
    assert (differences["gpu"], set(differences) <= set(GPU)) == (("a pretended GPU", None), True)
    assert runs.weights(on_gpu) == runs.weights(on_cpu)
    assert runs.timeless(on_gpu) == runs.timeless(on_cpu)
    assert {"mm.default", "_softmax.default", "searchsorted.Tensor"} <= found.operators
    assert not list(filter(REFUSED.match, found.operators))


@pytest.mark.train
def test_a_tensor_left_behind_on_the_host_is_noticed(model_folder: str, tmp_path: Path) -> None:
    config = small_config(model_folder, steps=1, **CASES["placebo"])
    with pretended_gpu() as found:
        train(config, tmp_path / "whole", runs.ignore)
    unnoticed = []
    for number, line in enumerate(sorted(found.moves)):
        with pretended_gpu(forgets=line):
            try:
                train(config, tmp_path / str(number), runs.ignore)
            except RuntimeError as error:
                if "to be on the same device, got cuda:0 and cpu" not in str(error):
                    raise
            else:
                unnoticed.append(line.partition(":")[0])
    assert unnoticed == MAY_STAY
    assert len(found.moves) > 20


def test_weights_that_ranks_partition_are_not_moved_whole(direct_policy: Policy) -> None:
    for stage, device in ((2, "cuda"), (3, "cpu")):
        with pretended_gpu():
            policy, reference = direct_policy.copy(), direct_policy.copy()
            move_to_gpu(small_config(backend="deepspeed", zero_stage=stage), policy, reference)
            assert (policy.device.type, reference.device.type) == (device, "cuda")


def test_an_operator_without_a_deterministic_kernel_is_found() -> None:
    with pretended_gpu() as found:
        torch.arange(4.0, device="cuda").median()
    assert list(filter(REFUSED.match, found.operators)) == ["median.default"]
