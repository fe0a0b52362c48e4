"""Formats a plan as text: memory per GPU by part, how many responses are sampled at once, and what does not fit."""

import textwrap
from collections.abc import Iterator

from harness.plan.job import GIB, Job
from harness.plan.memory import CONTEXT, peaks, responses_at_once

WIDTH = 110


def plan_text(job: Job, name: str) -> str:
    """The whole plan but for `shortages`."""
    return "\n\n".join([head(job, name), memory_text(job), rollout_text(job)])


def head(job: Job, name: str) -> str:
    """The model, its precision, the GPUs, backend and engine, and the size of a micro-batch."""
    config, billions = job.config, job.shape.parameters / 1e9
    trained = f", {job.trained / 1e6:,.1f} million of them in adapters" if config.model.lora_rank else ""
    stage = f", zero_stage {job.zero_stage}, offload {config.backend.offload}" if job.is_deepspeed else ""
    split = f", rollout_tp {job.split}" if job.split > 1 else ""
    checkpointing = str(config.model.gradient_checkpointing).lower()
    return (
        f"{name}: {config.model.model}, {billions:.3g} billion parameters{trained}, {config.model.dtype}\n"
        f"{job.hardware}; backend {config.backend.backend}{stage}; engine {config.engine.engine}{split}\n"
        f"{job.rows} x {job.full_tokens:,} tokens at a time, gradient_checkpointing {checkpointing}"
    )


def memory_text(job: Job) -> str:
    """A table with a row per part and a column per phase at its peak, then which moment each peak is."""
    phases = peaks(job)
    parts = dict.fromkeys(part for moment in phases.values() for part in moment.parts)
    rows = {part: [moment.parts.get(part, 0) for moment in phases.values()] for part in parts}
    rows["together"] = [moment.total for moment in phases.values()]
    bytes_each, unit = unit_of(job)
    lines = [f"Memory per GPU, {unit}   " + "".join(f"{name:>10}" for name in phases)]
    for part, sizes in rows.items():
        if any(sizes):
            lines.append(f"  {part:<20}" + "".join(f"{size / bytes_each:>10.2f}" for size in sizes))
    shares = "".join(f"{moment.total / job.gpu_bytes:>10.0%}" for moment in phases.values())
    lines.append(f"  {'of the GPU':<20}{shares}")
    return "\n".join([*lines, *(f"  peak of {name}: {moment.when}" for name, moment in phases.items())])


def unit_of(job: Job) -> tuple[int, str]:
    """The unit of sizes: MiB where no phase needs a GiB beside the CUDA context, else GiB."""
    is_small = all(moment.total - CONTEXT < GIB for moment in peaks(job).values())
    return (2**20, "MiB") if is_small else (GIB, "GiB")


def rollout_text(job: Job) -> str:
    """How many responses an engine samples at once."""
    bytes_each, unit = unit_of(job)
    held = f"An engine on {job.split} GPUs" if job.split > 1 else "A rank"
    text = (
        f"Keys and values of a response of full length ({job.full_tokens:,} tokens): "
        f"{job.response_cache / bytes_each:.3g} {unit} per GPU. {held} samples {job.engine_responses} responses per "
        f"round and has room for {responses_at_once(job):,.1f} of full length at once."
    )
    return textwrap.fill(text, WIDTH)


def shortages(job: Job) -> Iterator[str]:
    """A phrase for each requirement that is not met, with the missing amount."""
    for name, moment in peaks(job).items():
        if moment.total > job.gpu_bytes:
            total, more = moment.total / GIB, (moment.total - job.gpu_bytes) / GIB
            yield f"{name} needs {total:.1f} of {job.gpu_gib:g} GiB, {more:.1f} too much ({moment.when})"
    if responses_at_once(job) < 1:
        yield f"vLLM has room for only {responses_at_once(job):.2f} of a response of full length"
