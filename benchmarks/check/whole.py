"""Whole runs on the device: the same twice, the same when resumed, and under DeepSpeed and vLLM what they are alone."""

import importlib.util
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from benchmarks.check.finding import Finding, at_most
from benchmarks.models import TINY, random_policy
from harness.algorithm.correction import MAX_MEAN_GAP
from harness.algorithm.metrics import Metrics
from harness.config.resolve import resolve
from harness.errors import Stopped
from harness.loop import train
from harness.model.policy import write_policy
from harness.resume import resume

SMALL: dict[str, Any] = {"steps": 3, "prompts_per_step": 4, "group_size": 4, "minibatches": 2, "warmup_steps": 0}
SMALL |= {"max_response_tokens": 24, "eval_prompts": 8, "control": "random_reward", "checkpoint_every": 1, "lr": 1e-3}
CASES: dict[str, dict[str, Any]] = {
    "dapo": {"loss_type": "dapo", "delta": 10.0, "eval_top_p": 0.7},
    "fipo": {"loss_type": "fipo", "delta": 10.0, "sequence_filter": True, "epochs": 2, "beta": 0.05},
    "bfloat16": {"loss_type": "fipo", "dtype": "bfloat16", "gradient_checkpointing": True, "micro_batch_size": 4},
    "adapters": {"loss_type": "fipo", "lora_rank": 4},
}
# vLLM's attention wants heads of 32 or more
FOR_VLLM = TINY | {
    "hidden_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def saved_model(folder: Path, shape: dict[str, Any]) -> str:
    folder.mkdir()
    write_policy(folder, random_policy(shape))
    return str(folder)


def lines(run: Path) -> list[dict[str, Any]]:
    """The steps' metrics but for their times."""
    text = (run / "metrics.jsonl").read_text(encoding="utf-8")
    return [
        {key: value for key, value in json.loads(line).items() if not key.startswith("time/")}
        for line in text.splitlines()
    ]


def stop_in_the_second(metrics: Metrics) -> None:
    if metrics["step"] == 1:
        raise Stopped("a check")


def ignore(_metrics: Metrics) -> None:
    """Prints nothing."""


def placed(device: str) -> dict[str, str]:
    return {"device": "auto" if device == "cuda" else "cpu"}


def runs(device: str) -> Iterator[Finding]:
    """Runs of each kind give the same numbers twice, and when they are stopped and resumed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = saved_model(folder / "model", TINY)
        for case, changes in CASES.items():
            config = resolve(SMALL | {"model": model} | placed(device) | changes)
            first, second, third = (folder / f"{case}-{place}" for place in range(3))
            with redirect_stdout(io.StringIO()):
                train(config, first, ignore)
                train(config, second, ignore)
                with suppress(Stopped):
                    train(config, third, stop_in_the_second)
                resume(third, ignore)
            yield Finding(f"{case}: the same twice", same := lines(first) == lines(second), same)
            yield Finding(f"{case}: resumed the same", same := lines(first) == lines(third), same)


def by_command(folder: Path, model: str, name: str, **flags: Any) -> Path:
    """The folder of a run that a process of its own made."""
    words = [
        f"--{key}={value}" for key, value in (SMALL | {"model": model, "output_dir": folder / name} | flags).items()
    ]
    done = subprocess.run(
        [sys.executable, "-m", "harness", "train", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-800:])
    return folder / name


def deepspeed(device: str) -> Iterator[Finding]:
    """One rank under DeepSpeed has torch's weights."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = saved_model(folder / "model", TINY)

        def weights(run: str, **flags: Any) -> dict[str, Tensor]:
            made = by_command(folder, model, run, **placed(device), **flags)
            return load_file(made / "checkpoints/final/model.safetensors")

        plain = weights("torch")
        for stage in (1, 2, 3):
            found = weights(f"zero{stage}", backend="deepspeed", zero_stage=stage)
            off = max(float((found[name] - plain[name]).abs().max()) for name in plain)
            yield at_most(f"ZeRO {stage}: weights off torch's", off, 1e-5)


def vllm(device: str) -> Iterator[Finding]:
    """vLLM's log-probabilities are the trainer's, after each sync."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = saved_model(folder / "model", FOR_VLLM)
        for dtype, limit in MAX_MEAN_GAP.items():
            flags = {"loss_type": "fipo", "engine": "vllm", "engine_memory": 0.3, "dtype": dtype}
            found = lines(by_command(folder, model, dtype, **flags, **placed(device)))
            gaps = [line["sampler/logprob_gap_mean"] for line in found]
            yield at_most(f"vLLM in {dtype}: mean gap to the trainer, nats", max(gaps), limit)
            yield Finding(f"vLLM in {dtype}: largest gap", max(line["sampler/logprob_gap_max"] for line in found))


def needing(package: str, section: Callable[[str], Iterator[Finding]]) -> Callable[[str], Iterator[Finding]]:
    """The section, or where the package is not installed that it was left out."""
    missing = [Finding("left out, not installed", package)]
    return section if importlib.util.find_spec(package) else lambda _: iter(missing)
