"""This host's GPUs, by UUID: an index changes its meaning with CUDA_VISIBLE_DEVICES and after a reboot."""

import os
import shutil
import subprocess
from collections.abc import Sequence

from harness import HarnessError, UsageError


def listed_gpus(given: str) -> list[str]:
    """The GPUs of `--gpus`: UUIDs, or `all` for those that this process may see. Raises UsageError."""
    if given != "all":
        uuids = [uuid for uuid in given.split(",") if uuid]
        if len(set(uuids)) < len(uuids) or not uuids:
            raise UsageError(f"--gpus: expected different UUIDs with commas between (nvidia-smi -L), got {given!r}")
        return uuids
    rows = query("--query-gpu=uuid,index")
    if not rows:
        raise UsageError("--gpus all: expected GPUs that nvidia-smi lists, got none: give their UUIDs, or leave it out")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = None if visible is None else [name for name in visible.split(",") if name]
    return [uuid for uuid, index in rows if names is None or uuid in names or index in names]


def gpu_groups(given: str, size: int, most: int = 0) -> list[tuple[str, ...]]:
    """The GPUs of each slot: groups of `size`, at most so many (0: all). Raises UsageError where they make no group."""
    gpus = listed_gpus(given)
    if len(gpus) < size:
        raise UsageError(f"--gpus_per_trial {size}: expected at least so many GPUs, got {len(gpus)}")
    groups = [tuple(gpus[start : start + size]) for start in range(0, len(gpus) - size + 1, size)]
    return groups[: most or None]


def memory_used_mib(uuids: Sequence[str]) -> dict[str, int]:
    """Memory in use on each of the GPUs; nothing of one that nvidia-smi does not know."""
    used = {row[0]: row[1] for row in query("--query-gpu=uuid,memory.used")}
    return {uuid: int(used[uuid]) for uuid in uuids if used.get(uuid, "").isdecimal()}


def query(what: str) -> list[list[str]]:
    """The rows that nvidia-smi prints; none where it is missing or fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, what, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        raise HarnessError("nvidia-smi did not answer in a minute: the driver hangs, reboot the host") from None
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    return [[cell.strip() for cell in line.split(",")] for line in lines]
