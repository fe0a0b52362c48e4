"""Runs of several ranks in one start: torchrun ... -m tests.harness.backends.pairings FOLDER NAME...

Every rank trains each named pairing in turn into FOLDER/NAME-ranksN, as `python -m harness train` would.
"""

import math
import os
import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.distributed import distributed_c10d

from harness.algorithm.batching import plan_minibatches
from harness.algorithm.loss_metrics import LossRecord, metric_names
from harness.algorithm.metrics import Metrics
from harness.algorithm.nonfinite import NonFinite
from harness.algorithm.state import Training, begin
from harness.algorithm.update import known_logprobs
from harness.backends.backend import trained_parameters
from harness.backends.phases import be_a_rank
from harness.backends.ranks import ALONE
from harness.backends.rendezvous import is_loopback
from harness.config.schema import Config
from harness.errors import Stopped
from harness.loop import ranks_of, train
from harness.model.policy import load_policy
from harness.resume import resume
from harness.rollouts.collect import collect
from harness.tasks.chain_sum import GRADED
from tests.harness.runs import ignore
from tests.harness.tiny import context, small_config

SCAFFOLD: dict[str, Any] = {"steps": 5, "lr": 3e-4, "temperature": 1.5, "delta": 10.0}
SCAFFOLD |= {"checkpoint_every": 2, "eval_every": 5}
HARD: dict[str, Any] = {"control": "blame", "sequence_filter": True, "dynamic_sampling": True, "epochs": 2}
HARD |= {"beta": 0.05}

# what a run is besides its backend, and what the backend is; micro-batches of 8 leave a rank of two idle
RUNS: dict[str, dict[str, Any]] = {
    "grpo": {"loss_type": "grpo"},
    "dapo": {"loss_type": "dapo"},
    "fipo": {"loss_type": "fipo", **HARD},
    "lora": {"loss_type": "fipo", "lora_rank": 4, "lr": 1e-2},
    "checkpointed": {"loss_type": "fipo", "gradient_checkpointing": True},
}
PAIRINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "dapo-zero1": ("dapo", {"zero_stage": 1, "micro_batch_size": 8}),
    "fipo-zero2": ("fipo", {"zero_stage": 2, "micro_batch_size": 2}),
    "fipo-zero3": ("fipo", {"zero_stage": 3, "micro_batch_size": 4}),
    "lora-zero3": ("lora", {"zero_stage": 3}),
}
MORE = {
    f"{run}-zero{stage}-micro{size}": (run, {"zero_stage": stage, "micro_batch_size": size})
    for run in RUNS
    for stage in (1, 2, 3)
    for size in (1, 2, 4, 8)
} | {
    "fipo-offload": ("fipo", {"zero_stage": 2, "offload": "optimizer"}),
    "fipo-offload-all": ("fipo", {"zero_stage": 3, "offload": "all"}),
    "fipo-small-buckets": ("fipo", {"zero_stage": 2, "zero_bucket_size": 1000}),
}
REFUSALS = ("refuse-2-none", "refuse-3-none")  # by stage and offload: what `refuse_to_step` looks at
SUMS = ("sum-2", "sum-3")  # by stage: what `sum_in_float32` looks at
MORE_REFUSALS = ("refuse-1-none", "refuse-2-optimizer", "refuse-3-optimizer", "refuse-3-all")
RESUMED = ("fipo-zero3",)  # pairings that are also stopped after three steps
MORE_RESUMED = ("fipo-zero2",)
BFLOAT16: dict[str, dict[str, Any]] = {
    f"bfloat16-zero{stage}": {"loss_type": "fipo", "dtype": "bfloat16", "zero_stage": stage} for stage in (2, 3)
}


def config_of(model: str, name: str, nproc: int) -> Config:
    """The config of a pairing on so many ranks; 0 ranks: under torch alone."""
    if name in BFLOAT16:
        run, backend = BFLOAT16[name], dict[str, Any]()
    else:
        key, backend = (PAIRINGS | MORE)[name]
        run = RUNS[key]
    ours = {"backend": "deepspeed", "nproc": nproc} | backend if nproc else {}
    return small_config(model, **SCAFFOLD | run | ours)


def stop_after(steps: int) -> Any:
    """Stops a run after so many, as a signal between two steps would."""

    def stop(metrics: Metrics) -> None:
        if metrics["step"] == steps - 1:
            raise Stopped(f"stopped after {steps} steps")

    return stop


def side_by_side(model: str, dtype: str, **backend: Any) -> tuple[Training, Training, Any, Any]:
    """A run under DeepSpeed and one under torch before their first step, and the first step's minibatches of both."""
    shared = SCAFFOLD | {"loss_type": "dapo", "micro_batch_size": 1, "dtype": dtype}
    config = small_config(model, **shared, backend="deepspeed", **backend)
    ranks = ranks_of(config)
    training = begin(config, load_policy(model, dtype), None, ranks)
    plain = begin(small_config(model, **shared), load_policy(model, dtype), None)
    groups = collect(context(plain.policy, config), 0).kept
    ours, whole = (plan_minibatches(groups, plain.policy, GRADED, config, each) for each in (ranks, ALONE))
    return training, plain, ours, whole


def sum_in_float32(model: str, stage: int) -> None:
    """Gradients in bfloat16 are summed over micro-batches and ranks as under torch, in float32.

    The two parts of a tied embedding's gradient DeepSpeed adds in bfloat16.
    """
    from deepspeed.utils import safe_get_full_grad

    training, plain, *batches = side_by_side(model, "bfloat16", zero_stage=stage)
    for one, minibatches in zip((training, plain), batches, strict=True):
        known = known_logprobs(one.updater.backend, None, minibatches, 1.5)
        one.updater.gradient(minibatches[0], known[0])
    pairs = zip(trained_parameters(training.policy.model), plain.policy.model.parameters(), strict=True)
    for (name, own), other in pairs:
        off = (safe_get_full_grad(own) - other.grad).norm() / other.grad.norm()
        assert off < (4e-3 if "embed" in name else 1e-5), f"{name} is {off} off"


def refuse_to_step(model: str, stage: int, offload: str) -> None:
    """An update whose loss is infinite and its gradient finite changes nothing, and the next one is as ever."""
    training, plain, ours, whole = side_by_side(model, "float32", zero_stage=stage, offload=offload)
    known = known_logprobs(training.updater.backend, None, ours, 1.5)
    before = {name: tensor.clone() for name, tensor in training.updater.backend.weights()}
    record = LossRecord(metric_names(training.updater.loss))
    gradient = replace(training.updater.gradient(ours[0], known[0]), loss=math.inf)
    try:
        training.updater.apply(gradient, ours[0], record)
    except NonFinite:
        assert gradient.norm.isfinite()
    else:
        raise AssertionError("it was stepped with")
    after = dict(training.updater.backend.weights())
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items()), "the weights have changed"
    training.updater.step(ours[0], known[0], record)
    plain.updater.step(whole[0], known_logprobs(plain.policy, None, whole, 1.5)[0], LossRecord(record.names))
    theirs = dict(plain.updater.backend.weights())
    gap = max(float((tensor - theirs[name]).abs().max()) for name, tensor in training.updater.backend.weights())
    assert gap < 1e-5, f"the next update is {gap} off"


def no_pickles(*_: Any) -> None:
    """In place of what torch reads a pickle with that another rank has sent."""
    raise AssertionError("a rank sent a pickle")


def listening(processes: Iterable[psutil.Process]) -> list[str]:
    """The addresses at which the processes listen."""
    found = [one for process in processes for one in process.net_connections() if one.status == psutil.CONN_LISTEN]
    return [one.laddr.ip for one in found]


def main(folder: Path, names: list[str]) -> None:
    """Train them all; `NAME!` is stopped after three steps, `NAME+` resumed where `NAME!` lies."""
    be_a_rank(deadline_s=1800.0)
    distributed_c10d._tensor_to_object = no_pickles  # neither ours nor DeepSpeed's
    world = int(os.environ["WORLD_SIZE"])
    for name in names:
        plain = name.rstrip("!+")
        path = folder / f"{plain}-ranks{world}{'-stopped' if plain != name else ''}"
        if name.startswith(("refuse-", "sum-")):
            _, stage, *offload = name.split("-")
            (refuse_to_step if offload else sum_in_float32)(str(folder / "model"), int(stage), *offload)
            (folder / f"{name}-rank{os.environ['RANK']}").touch()
        elif name.endswith("+"):
            resume(path, ignore)
        elif name.endswith("!"):
            with suppress(Stopped):
                train(config_of(str(folder / "model"), plain, world), path, stop_after(3))
            if os.environ["RANK"] == "0":
                shutil.copytree(path, path.with_name(f"{path.name}-copy"))
        else:
            train(config_of(str(folder / "model"), plain, world), path, ignore)
    assert all(map(is_loopback, listening([psutil.Process()])))
    assert os.environ["GLOO_SOCKET_IFNAME"] in ("lo", "lo0")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
