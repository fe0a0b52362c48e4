"""What to change where a job does not fit: the cheapest few flags with which it does, found by planning each."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

from harness.config.resolve import build, tree_of
from harness.config.schema import Config
from harness.errors import UsageError
from harness.plan.cost import Assumptions, step_work
from harness.plan.job import Job, find_gpu, known_gpus
from harness.plan.memory import fits

MOST_TOGETHER = 3  # flags changed at once
MOST_SHOWN = 3
OTHER_EXPERIMENT = ("lora_rank", "max_response_tokens")  # the others leave the mathematics as they are
HARDWARE = ("gpus", "gpu")  # flags of the plan
Moves = dict[str, list[Any]]  # values to try of each flag


@dataclass(frozen=True)
class Change:
    """Flags that make a job fit, and the hours of GPUs that a step then takes."""

    flags: dict[str, Any]
    gpu_hours: float

    @property
    def is_other_experiment(self) -> bool:
        """Whether what is learned may differ."""
        return any(flag in OTHER_EXPERIMENT for flag in self.flags)

    @property
    def text(self) -> str:
        """As a command line spells it."""
        return " ".join(f"--{name} {str(value).lower()}" for name, value in self.flags.items())


def changes_that_fit(job: Job, assumptions: Assumptions) -> list[Change]:
    """The cheapest changes that keep experiment and GPUs, then of all; of each as few flags as suffice. Maybe none."""
    everything = moves(job)
    settings = {flag: values for flag, values in everything.items() if flag not in (*OTHER_EXPERIMENT, *HARDWARE)}
    found = fewest(job, assumptions, settings) + fewest(job, assumptions, everything)
    return list({change.text: change for change in found}.values())[:MOST_SHOWN]


def fewest(job: Job, assumptions: Assumptions, tried: Moves) -> list[Change]:
    """Those of the smallest number of flags with which any fits, the cheapest first."""
    for together in range(1, MOST_TOGETHER + 1):
        found = [change for names in combinations(tried.items(), together) for change in best(job, assumptions, names)]
        if found:
            kinds = sorted(found, key=lambda change: (change.is_other_experiment, change.gpu_hours))
            return kinds[: MOST_SHOWN - 1]
    return []


def best(job: Job, assumptions: Assumptions, names: Sequence[tuple[str, list[Any]]]) -> list[Change]:
    """Of these flags' values the cheapest that fit, if any do."""
    flags = [name for name, _ in names]
    options = []
    for values in product(*(values for _, values in names)):
        given = dict(zip(flags, values, strict=True))
        changed = with_flags(job, given)
        if changed is not None and fits(changed):
            options.append(Change(given, gpu_hours(changed, assumptions)))
    return [min(options, key=lambda change: change.gpu_hours)] if options else []


def moves(job: Job) -> Moves:
    """Values to try of each flag, the present ones left out."""
    config, length = job.config, job.full_tokens
    is_budget = config.optimizer.micro_batch_tokens is not None
    smaller = [rows for rows in (8, 4, 2, 1) if rows * length < job.tokens_at_once]
    tried: Moves = {
        "gradient_checkpointing": [True] if not config.model.gradient_checkpointing else [],
        "micro_batch_size": smaller if not is_budget else [],
        "micro_batch_tokens": [rows * length for rows in smaller] if is_budget else [],
        "engine_memory": [share / 100 for share in range(20, 96, 5)],
        "engine": ["torch"] if config.engine.engine == "vllm" else ["vllm"],
        "max_response_tokens": [config.rollout.max_response_tokens * part // 4 for part in (3, 2, 1)],
        "lora_rank": [32] if config.model.lora_rank is None else [],
    }
    if job.is_deepspeed:
        tried["zero_stage"] = list(range(job.zero_stage + 1, 4))
        tried["offload"] = [name for name in ("optimizer", "all") if name != config.backend.offload]
        tried["gpus"] = [job.gpus * times for times in (2, 4, 8)]
    tried["gpu"] = [name for name, gpu in known_gpus().items() if gpu.memory_gib > 1.1 * job.gpu.memory_gib]
    return {name: values for name, values in tried.items() if values}


def with_flags(job: Job, flags: dict[str, Any]) -> Job | None:
    """The job with these flags; None where they do not go together. `gpus` and `gpu` are the plan's own."""
    settings = {name: value for name, value in flags.items() if name not in ("gpus", "gpu")}
    try:
        config = build(flat(job.config) | settings)
    except UsageError:
        return None
    gpu = find_gpu(flags["gpu"]) if "gpu" in flags else job.gpu
    return Job(config, job.shape, int(flags.get("gpus", job.gpus)), gpu)


def flat(config: Config) -> dict[str, Any]:
    """The settings by flag."""
    return {name: value for section in tree_of(config).values() for name, value in section.items()}


def gpu_hours(job: Job, assumptions: Assumptions) -> float:
    """Of a step."""
    return sum(work.seconds for work in step_work(job, assumptions)) * job.gpus / 3600
