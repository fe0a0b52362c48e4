"""Formats a plan as text: memory per GPU by part, cost of a step and of the run, and what does not fit."""

import textwrap
from collections.abc import Iterator

from harness.plan.cost import LAUNCH_S, Assumptions, Work, step_work
from harness.plan.job import GIB, Job
from harness.plan.memory import CONTEXT, PARTS, peaks, responses_at_once

WIDTH = 110


def plan_text(job: Job, given: Assumptions, name: str) -> str:
    """The whole plan but for `shortages`."""
    parts = [head(job, name), memory_text(job), rollout_text(job), cost_text(job, step_work(job, given))]
    return "\n\n".join([*parts, assumptions_text(job, given)])


def head(job: Job, name: str) -> str:
    """The model, its precision, the GPUs, backend and engine, and the size of a micro-batch."""
    config, billions = job.config, job.shape.parameters / 1e9
    trained = f", {job.trained / 1e6:,.1f} million of them in adapters" if config.model.lora_rank else ""
    stage = f", zero_stage {job.zero_stage}, offload {config.backend.offload}" if job.is_deepspeed else ""
    split = f", rollout_tp {job.split}" if job.split > 1 else ""
    checkpointing = str(config.model.gradient_checkpointing).lower()
    return (
        f"{name}: {config.model.model}, {billions:.3g} billion parameters{trained}, {config.model.dtype}\n"
        f"{job.gpus} x {job.gpu.name}; backend {config.backend.backend}{stage}; engine {config.engine.engine}{split}\n"
        f"{job.rows} x {job.full_tokens:,} tokens at a time, gradient_checkpointing {checkpointing}"
    )


def memory_text(job: Job) -> str:
    """A table with a row per part and a column per phase at its peak, then which moment each peak is."""
    phases = peaks(job)
    is_small = all(moment.total - CONTEXT < GIB for moment in phases.values())
    unit, name = (2**20, "MiB") if is_small else (GIB, "GiB")

    def row(part: str, sizes: list[int]) -> str:
        return f"  {part:<20}" + "".join(f"{size / unit:>10.2f}" for size in sizes)

    lines = [f"Memory per GPU, {name}   " + "".join(f"{name:>10}" for name in phases)]
    rows = {part: [moment.parts.get(part, 0) for moment in phases.values()] for part in PARTS}
    lines += [row(part, sizes) for part, sizes in rows.items() if any(sizes)]
    lines.append(row("together", [moment.total for moment in phases.values()]))
    shares = "".join(f"{moment.total / job.gpu.memory:>10.0%}" for moment in phases.values())
    lines.append(f"  {'of the GPU':<20}{shares}")
    return "\n".join([*lines, *(f"  peak of {name}: {moment.when}" for name, moment in phases.items())])


def rollout_text(job: Job) -> str:
    """How many responses an engine samples at once."""
    held = f"An engine on {job.split} GPUs" if job.split > 1 else "A rank"
    text = (
        f"Keys and values of a response of full length ({job.full_tokens:,} tokens): "
        f"{job.response_cache / GIB:.3g} GiB per GPU. {held} samples {job.engine_responses} responses per round and "
        f"has room for {responses_at_once(job):,.1f} of full length at once."
    )
    return textwrap.fill(text, WIDTH)


def cost_text(job: Job, work: list[Work]) -> str:
    """A table with a row per part of a training step and the whole step, then a line on the run."""

    def row(one: Work) -> str:
        numbers = (one.tokens / 1e6, one.flops / 1e15, one.seconds / 3600, one.seconds / 3600 * job.gpus)
        return f"  {one.name:<20}" + "".join(f"{significant(number):>14}" for number in numbers)

    totals = (sum(getattr(one, name) for one in work) for name in ("tokens", "flops", "seconds"))
    step, steps = Work("a step", *totals), job.config.run.steps
    hours = steps * step.seconds / 3600
    lines = [f"{'A training step':<22}{'million tokens':>14}{'PFLOPs':>14}{'hours':>14}{'GPU-hours':>14}"]
    lines += [row(one) for one in (*work, step)]
    run = f"{significant(hours)} hours ({significant(hours / 24)} days), {significant(hours * job.gpus)} GPU-hours"
    return "\n".join([*lines, f"  {steps:,} steps: {run}, {steps * step.flops:.2e} FLOPs"])


def significant(number: float) -> str:
    """The number with three significant digits, or as an integer from 1000 up."""
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


def assumptions_text(job: Job, given: Assumptions) -> str:
    """The assumptions behind the numbers, and what is left out."""
    gpu, values = job.gpu, ", ".join(f"--{name} {value:g}" for name, value in vars(given).items())
    engine = "" if job.is_vllm else f" torch's engine takes {LAUNCH_S * 1e3:g} ms a layer and token to launch kernels."
    return textwrap.fill(
        f"Assumed: {values}. Shares are of the GPU's {gpu.bfloat16_tflops:g} TFLOP/s in bfloat16, "
        f"{gpu.float32_tflops:g} in float32 and {gpu.bandwidth_tb_s:g} TB/s.{engine} Left "
        "out: evaluations, waiting between ranks, communication, memory that the allocator keeps unused.",
        WIDTH,
    )


def shortages(job: Job) -> Iterator[str]:
    """A phrase for each requirement that is not met, with the missing amount."""
    for name, moment in peaks(job).items():
        if moment.total > job.gpu.memory:
            total, more = moment.total / GIB, (moment.total - job.gpu.memory) / GIB
            yield f"{name} needs {total:.1f} of {job.gpu.memory_gib:g} GiB, {more:.1f} too much ({moment.when})"
    if responses_at_once(job) < 1:
        yield f"vLLM has room for only {responses_at_once(job):.2f} of a response of full length"
