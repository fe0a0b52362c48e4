"""Out of memory: how it is recognised, and what to do about it."""

import re
from pathlib import Path

MEMORY = re.compile(r"OutOfMemoryError|out of memory|MemoryError|[Uu]nable to allocate|[Cc]an(no|')t allocate memory")
ADVICE = (
    "lower --micro_batch_size or --micro_batch_tokens, --max_response_tokens or --engine_memory, or use "
    "--gradient_checkpointing true, --lora_rank 16, a higher --zero_stage or --offload"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device's or the host's memory did not suffice."""
    return isinstance(error, MemoryError) or bool(MEMORY.search(f"{type(error).__name__}: {error}"))


def memory_kills() -> int:
    """How often the kernel has killed a process of this control group for memory; 0 where that is not told."""
    group = Path("/proc/self/cgroup")
    lines = group.read_text(encoding="utf-8").splitlines() if group.is_file() else []
    own = [line.partition("::")[2] for line in lines if line.startswith("0::")]
    for events in [Path(f"/sys/fs/cgroup{path}/memory.events") for path in [*own, ""]]:
        if events.is_file():
            fields = dict(line.split() for line in events.read_text(encoding="ascii").splitlines())
            return int(fields.get("oom_kill", 0))
    return 0
