"""This host's GPUs, by UUID: an index changes its meaning with CUDA_VISIBLE_DEVICES and after a reboot."""

import os
import shutil
import subprocess

from harness import HarnessError, UsageError


def gpu_groups(size: int, most: int = 0) -> list[tuple[str, ...]]:
    """The GPUs of each slot: groups of `size`, at most so many (0: all). Raises UsageError where they make no group."""
    gpus = visible_gpus()
    if len(gpus) < size:
        raise UsageError(
            f"--gpus_per_trial {size}: expected at least so many GPUs that nvidia-smi lists and CUDA_VISIBLE_DEVICES "
            f"does not hide, got {len(gpus)}"
        )
    groups = [tuple(gpus[start : start + size]) for start in range(0, len(gpus) - size + 1, size)]
    return groups[: most or None]


def visible_gpus() -> list[str]:
    """The UUIDs of the GPUs that this process may see; none where nvidia-smi is missing or fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=uuid,index", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        raise HarnessError("nvidia-smi did not answer in a minute: the driver hangs, reboot the host") from None
    rows = [line.split(", ") for line in done.stdout.splitlines()] if done.returncode == 0 else []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = None if visible is None else [name for name in visible.split(",") if name]
    return [uuid for uuid, index in rows if names is None or uuid in names or index in names]
