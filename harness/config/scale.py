"""Settings of the backend, which trains the policy, and of the engine, which samples its responses."""

from typing import Literal

from harness.config.base import Count, Positive, Section, setting


class EngineSettings(Section):
    """What samples the responses, and how its log-probabilities are used."""

    engine: Literal["torch", "vllm"] = setting(
        "torch", "torch: the trainer's own model. vllm: one engine per rank; needs vLLM's own Python environment."
    )
    engine_memory: float = setting(
        0.5, "Share of the device's memory for vllm; released while the trainer works.", gt=0, le=1
    )
    rollout_tp: Count = setting(1, "Ranks of a host that share one vllm engine, each with a part of every weight.")
    sync_tolerance: float | None = setting(
        None,
        "Stop if the engine's log-probabilities differ by more from the trainer's, mean nats per token: after a sync, "
        "and over the first step. Default: 1e-3 in float32, 0.1 in bfloat16.",
        gt=0,
    )
    sampler_correction: Literal["none", "truncate", "mask"] = setting(
        "none",
        "Importance weight of trainer over sampler on each token's loss, cut at the cap (truncate) or dropped "
        "outside [1/cap, cap] (mask); not part of the ratio.",
    )
    sampler_correction_cap: float = setting(2.0, "Cap of that weight.", gt=1)


class BackendSettings(Section):
    """Where the policy is trained."""

    backend: Literal["torch", "deepspeed"] = setting("torch", "torch: this process alone.")
    nproc: int = setting(
        1,
        "Ranks to start on this host, one per GPU; under torchrun its own number counts. More than 1: deepspeed.",
        ge=1,
        le=1024,
    )
    zero_stage: int = setting(
        2, "What DeepSpeed shards over the ranks: 1 moments, 2 gradients too, 3 weights too.", ge=1, le=3
    )
    offload: Literal["none", "optimizer", "all"] = setting(
        "none", "Keep moments, or weights too (zero_stage 3), in the host's memory."
    )
    zero_bucket_size: Count | None = setting(
        None, "Elements per collective. Default: 2000000 on the CPU, 500000000 on a GPU."
    )
    phase_deadline_s: Positive = setting(
        1800.0, "End the run when a rank makes no progress for this many seconds; must exceed one sampling round."
    )


def check_scale(backend: BackendSettings, engine: EngineSettings) -> None:
    """Raise ValueError for combinations of backend and engine that are not supported."""
    if backend.backend == "torch" and backend.nproc > 1:
        raise ValueError(
            f"--nproc {backend.nproc} needs --backend deepspeed, got torch, which is one process: pass it, or leave "
            "--nproc out"
        )
    if backend.backend == "deepspeed" and backend.offload == "all" and backend.zero_stage < 3:
        raise ValueError(f"--offload all needs --zero_stage 3, got {backend.zero_stage}: raise it")
    if engine.rollout_tp > 1 and (backend.backend, engine.engine) != ("deepspeed", "vllm"):
        raise ValueError(
            f"--rollout_tp {engine.rollout_tp} needs --engine vllm and --backend deepspeed, got {engine.engine} and "
            f"{backend.backend}: pass them, or leave --rollout_tp out"
        )
    if engine.sampler_correction != "none" and engine.engine == "torch":
        raise ValueError(
            f"--sampler_correction {engine.sampler_correction} with --engine torch would count the same weights "
            "twice: there the trainer's own model draws the responses; leave it out, or use --engine vllm"
        )


VLLM_TEMPERATURES = 0.01, 2.0  # vllm/sampling_params.py: lower ones are raised, higher ones refused


def check_temperatures(engine: EngineSettings, **temperatures: float) -> None:
    """Raise ValueError for temperatures, by name, that the engine would not sample at."""
    low, high = VLLM_TEMPERATURES
    for name, value in temperatures.items() if engine.engine == "vllm" else ():
        if not low <= value <= high:
            raise ValueError(
                f"--{name} {value:g} with --engine vllm, which samples at temperatures from {low:g} to {high:g}: "
                "choose one of these, or use --engine torch"
            )
