"""The slots of this host that a search may use, held by leases while it does."""

import argparse
import platform
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness import UsageError, cache_folder
from sweeps.workers.gpus import listed_gpus
from sweeps.workers.leases import acquire
from sweeps.workers.slots import LocalSlot, Slot


@contextmanager
def held_slots(study: Path, options: argparse.Namespace, count: int) -> Iterator[Sequence[Slot]]:
    """The slots of this host, held by leases; what a dead controller of this study left running is ended."""
    folder = study / "slots"
    for path in folder.glob("*.json"):  # also of an earlier start with more slots, or with another launcher
        if left := acquire(path):
            left.release()
    with ExitStack() as stack:
        slots: Sequence[Slot]
        if options.launcher == "slurm":
            from sweeps.workers.slurm import slurm_slots

            slots = slurm_slots(study, count, options)
        else:
            slots = local_slots(folder, gpu_groups(options) or [()] * count)
        for slot in slots:
            stack.callback(slot.release)
        if not slots:
            raise UsageError(f"{study}: every slot is held by another search: stop it, or wait for it")
        yield slots


def local_slots(folder: Path, groups: Sequence[tuple[str, ...]]) -> list[LocalSlot]:
    """A slot for each group of GPUs, or share of the CPU where the group is empty, that no other search holds."""
    slots = []
    for number, gpus in enumerate(groups):
        paths = [cache_folder() / "leases" / f"{uuid}.json" for uuid in gpus]
        leases = [acquire(path) for path in paths or [folder / f"{platform.node()}-{number}.json"]]
        held = [lease for lease in leases if lease is not None]
        slot = LocalSlot(f"slot {number}", gpus, held)
        if len(held) == len(leases):
            slots.append(slot)
        else:
            slot.release()
    return slots


def gpu_groups(options: argparse.Namespace) -> list[tuple[str, ...]]:
    """The GPUs of each slot; none where trials run on the CPU."""
    size = options.gpus_per_trial
    if not size or options.launcher == "slurm":
        return []
    gpus = listed_gpus(options.gpus)
    if len(gpus) < size:
        raise UsageError(f"--gpus_per_trial {size}: expected at least so many GPUs, got {len(gpus)}")
    groups = [tuple(gpus[start : start + size]) for start in range(0, len(gpus) - size + 1, size)]
    return groups[: options.slots] if options.slots else groups
