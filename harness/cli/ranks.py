"""Runs a command on several ranks, which are started here (`--nproc`) or by the user's torchrun."""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from harness.backends.launch import launch
from harness.backends.phases import be_a_rank
from harness.backends.rendezvous import own_place
from harness.config.schema import Config
from harness.console import command
from harness.errors import INTERRUPTED, RanksFailed, Stopped, UsageError
from harness.files import json_object, write_json
from harness.run.folder import METRICS, STATUS
from harness.run.history import read_lines


def by_ranks(config: Config, arguments: Sequence[str], folder: Path, is_new: bool) -> bool:
    """Run the command on ranks of its own, if the config asks for several and this process is not one of them.

    Returns True once they have finished, and False if this process must run the command itself. Raises RanksFailed if a
    rank failed, and UsageError if the ranks cannot be started, or cannot share engines as the config says.
    """
    if config.backend.backend == "torch":
        return False
    is_rank = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    count = own_place().local if is_rank else config.backend.nproc
    if count % config.engine.rollout_tp:
        raise UsageError(
            f"--rollout_tp: expected a divisor of the host's {count} ranks, got {config.engine.rollout_tp}"
        )
    if is_rank:
        be_a_rank(config.backend.phase_deadline_s)
        return False
    for name in ("deepspeed", *(["vllm"] if config.engine.engine == "vllm" else [])):
        if importlib.util.find_spec(name) is None:
            flag = "--engine" if name == "vllm" else "--backend"
            raise UsageError(f"{flag} {name}: expected the package {name}, but it is not installed: install it")
    if is_new:
        from harness.run.record import refuse_used_folder

        refuse_used_folder(folder)
    try:
        launch(config, ["-m", "harness", *arguments])
    except RanksFailed as failed:
        raise noted(failed, folder) from None
    except KeyboardInterrupt:
        raise noted(RanksFailed(INTERRUPTED, Stopped.exit_code, Stopped.code), folder) from None
    return True


def noted(failed: RanksFailed, folder: Path) -> RanksFailed:
    """The failure, with the command to resume; writes it to status.json if the first rank could not."""
    status = json_object(folder / STATUS)
    if status is None:
        return failed
    if status.get("state") == "running":
        state = "failed" if failed.is_final else "preempted"
        ending = {"state": state, "reason_code": failed.code, "reason": str(failed), "exit_code": failed.exit_code}
        write_json(folder / STATUS, status | ending | {"steps_done": len(read_lines(folder / METRICS))})
    is_said = failed.exit_code == Stopped.exit_code and str(failed) != INTERRUPTED  # by a rank that stopped at a step
    if failed.is_final or is_said:
        return failed
    return RanksFailed(f"{failed}; resume with: {command('harness', 'resume', folder)}", failed.exit_code, failed.code)
