"""A plan as text: memory per GPU by part, cost by step and run, and what to change where it does not fit."""

import textwrap
from collections.abc import Iterator

from harness.plan.activations import trainer_pass
from harness.plan.changes import changes_that_fit
from harness.plan.cost import LAUNCH_S, Assumptions, step_work
from harness.plan.job import GIB, Job
from harness.plan.memory import (
    CONTEXT,
    PARTS,
    VLLM_OVERHEAD,
    Moment,
    fits,
    held,
    memory_of,
    response_cache_bytes,
    responses_at_once,
)

WIDTH = 110
BAR = 30  # characters of the whole memory
TIGHT = 0.9  # of the memory: fragments may take the rest


def plan_text(job: Job, given: Assumptions, name: str) -> str:
    """The whole plan."""
    parts = [head(job, name), memory_text(job), rollout_text(job), cost_text(job, given), assumptions_text(job, given)]
    return "\n\n".join([*parts, verdict_text(job, given)])


def head(job: Job, name: str) -> str:
    """What is planned for."""
    config, billions = job.config, job.shape.parameters / 1e9
    trained = f", {job.trained / 1e6:,.1f} million of them in adapters" if config.model.lora_rank else ""
    stage = f", zero_stage {job.zero_stage}, offload {config.backend.offload}" if job.is_deepspeed else ""
    checkpointing = str(config.model.gradient_checkpointing).lower()
    more = f"{job.rows} x {job.full_tokens:,} tokens at a time, gradient_checkpointing {checkpointing}"
    return (
        f"{name}: {config.model.model}, {billions:.3g} billion parameters{trained}, {config.model.dtype}\n"
        f"{job.gpus} x {job.gpu.name}; backend {config.backend.backend}{stage}; engine {config.engine.engine}\n{more}"
    )


def memory_text(job: Job) -> str:
    """A row per part, a column per phase: the phase's largest moment."""
    phases = memory_of(job).phases
    is_small = all(moment.total - CONTEXT < GIB for moment in phases.values())
    unit, name = (2**20, "MiB") if is_small else (GIB, "GiB")
    lines = [f"Memory per GPU, {name}   " + "".join(f"{name:>10}" for name in phases)]
    for part in PARTS:
        sizes = [moment.parts.get(part, 0) for moment in phases.values()]
        if any(sizes):
            lines.append(f"  {part:<20}" + "".join(f"{size / unit:>10.2f}" for size in sizes))
    lines.append(f"  {'together':<20}" + "".join(f"{moment.total / unit:>10.2f}" for moment in phases.values()))
    return "\n".join(lines + [bar(name, moment, job) for name, moment in phases.items()])


def bar(name: str, moment: Moment, job: Job) -> str:
    """How full a phase makes the GPU, and at which moment."""
    share = moment.total / (job.gpu.memory_gib * GIB)
    filled = min(BAR, round(BAR * share))
    said = "DOES NOT FIT" if share > 1 else "tight" if share > TIGHT else "fits"
    drawn = "#" * filled + "." * (BAR - filled)
    return f"{name:<8}[{drawn}] {share:>4.0%} {said}: {moment.when}"


def rollout_text(job: Job) -> str:
    """How many responses are drawn at once, and the host's memory."""
    rows = job.prompts_of_a_rank * job.config.rollout.group_size
    one = response_cache_bytes(job) / GIB
    text = (
        f"Keys and values of a response of full length ({job.full_tokens:,} tokens): {one:.3g} GiB. A rank is asked "
        f"for {rows} in a round and has room for {responses_at_once(job):,.1f} of full length at once."
    )
    if job.config.engine.engine == "vllm":
        whole = job.shape.parameters * job.width / GIB
        text += (
            f" Each rank has a whole vLLM engine, {whole:.1f} GiB of weights, no tensor parallelism. A host with "
            f"{job.config.backend.nproc} ranks needs {job.config.backend.nproc * whole:,.0f} GiB for engines asleep."
        )
    return textwrap.fill(text, WIDTH)


def cost_text(job: Job, given: Assumptions) -> str:
    """A row per part of a step, then the step and the run."""
    work, steps = step_work(job, given), job.config.run.steps
    lines = [f"{'A training step':<22}{'million tokens':>14}{'PFLOPs':>14}{'hours':>14}{'GPU-hours':>14}"]

    def line(name: str, tokens: float, flops: float, seconds: float) -> str:
        hours = seconds / 3600
        numbers = (tokens / 1e6, flops / 1e15, hours, hours * job.gpus)
        return f"  {name:<20}" + "".join(f"{significant(number):>14}" for number in numbers)

    lines += [line(one.name, one.tokens, one.flops, one.seconds) for one in work]
    seconds, flops = sum(one.seconds for one in work), sum(one.flops for one in work)
    lines.append(line("a step", sum(one.tokens for one in work), flops, seconds))
    hours = steps * seconds / 3600
    lines.append(
        f"  {steps:,} steps: {significant(hours)} hours ({significant(hours / 24)} days), "
        f"{significant(hours * job.gpus)} GPU-hours, "
        f"{steps * flops:.2e} FLOPs"
    )
    return "\n".join(lines)


def significant(number: float) -> str:
    """Three significant digits."""
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


def assumptions_text(job: Job, given: Assumptions) -> str:
    """What the numbers rest on."""
    config, limit = job.config, job.response_tokens
    share = given.mean_response_tokens / limit
    rounds = f"{given.sampling_rounds} sampling round{'s' if given.sampling_rounds > 1 else ''} a step"
    half = ": half the groups hold both right and wrong" if config.rollout.dynamic_sampling else ""
    lines = [
        f"responses of {given.mean_response_tokens:,.0f} tokens on average, {share:.0%} of the limit "
        "(--mean_response_tokens)",
        f"prompts of {given.mean_prompt_tokens:,.0f} on average (--mean_prompt_tokens)",
        f"{rounds} of {job.prompts_per_round:,} prompts{half} (--sampling_rounds)",
        f"{given.compute_share:.0%} of {job.gpu.bfloat16_tflops:,.0f} TFLOP/s in bfloat16, of "
        f"{job.gpu.float32_tflops:g} in float32 (--compute_share); the head's product is always in float32, and "
        f"takes {head_share(job, given):.0%} of the time of log-probabilities and updates",
        f"drawing reads the weights for each token's step and the row's keys and values: "
        f"{given.bandwidth_share:.0%} of {job.gpu.bandwidth_tb_s:g} TB/s (--bandwidth_share)",
    ]
    if config.engine.engine == "torch":
        lines.append(f"torch's engine starts {LAUNCH_S * 1e3:g} ms of kernels a layer and token, one after another")
    lines.append("left out: evaluations, waiting between ranks, communication, what the allocator keeps unused")
    return "Assumed:\n" + "\n".join(
        textwrap.fill(line, WIDTH, initial_indent="  - ", subsequent_indent="    ") for line in lines
    )


def head_share(job: Job, given: Assumptions) -> float:
    """The float32 head's part of the trainer's time."""
    work = step_work(job, given)[1:]
    return sum(one.head_seconds for one in work) / sum(one.seconds for one in work)


def verdict_text(job: Job, given: Assumptions) -> str:
    """Whether it fits, and what to change if not."""
    if fits(job):
        return "Fits."
    lines = ["Does not fit: " + "; ".join(reasons(job)) + "."]
    found = changes_that_fit(job, given)
    if not found:
        lines.append(
            "No three of --zero_stage, --offload, --gradient_checkpointing, --micro_batch_size, --micro_batch_tokens, "
            "--engine, --engine_memory, --gpus, --gpu, --max_response_tokens and --lora_rank make it fit: take a "
            "smaller model."
        )
    for change in found:
        other = ", which is another experiment" if change.is_other_experiment else ""
        lines.append(f"It fits with {change.text}: {change.gpu_hours:,.2f} GPU-hours a step{other}.")
    if job.config.engine.engine == "vllm" and job.shape.parameters * job.width > job.gpu.memory_gib * GIB / 2:
        lines.append(elsewhere(job))
    return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in lines)


def elsewhere(job: Job) -> str:
    """The same job as the published 32B scripts lay it out (verl): gen_tp=4, gpu_memory_utilization=0.80, sp_size=8."""
    tensor, share, sequence = 4, 0.8, 8
    weights = job.shape.parameters * job.width / tensor
    room = (share * job.gpu.memory_gib * GIB - weights - VLLM_OVERHEAD) / (response_cache_bytes(job) / tensor)
    one = trainer_pass(job)
    activations = (one.kept_bytes + one.layer_work_bytes) / sequence
    rest = sum(held(job).values())
    drawing = rest + share * job.gpu.memory_gib * GIB
    return (
        f"As the published 32B scripts lay it out (generation tensor parallel {tensor}, vLLM share {share}, sequence "
        f"parallel {sequence}) an engine holds {weights / GIB:.1f} GiB of weights per GPU, {tensor} GPUs have room for "
        f"{max(0.0, room):,.1f} full responses, drawing takes {drawing / GIB:.1f} GiB, and activations are "
        f"{activations / GIB:.1f} GiB. This harness has one whole engine per rank and no sequence parallelism."
    )


def reasons(job: Job) -> Iterator[str]:
    """What does not fit, in numbers."""
    for name, moment in memory_of(job).phases.items():
        if moment.total > job.gpu.memory_gib * GIB:
            yield f"{name} needs {moment.total / GIB:.1f} of {job.gpu.memory_gib:g} GiB ({moment.when})"
    if responses_at_once(job) < 1:
        yield f"vLLM has room for {responses_at_once(job):.2f} of a response of full length"
