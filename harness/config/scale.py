"""Where a run is trained and what draws its responses: the settings of backend and engine."""

from typing import Literal

from pydantic import Field

from harness.config.section import Count, Positive, Section


class EngineSettings(Section):
    """What draws the responses, and what is made of its log-probabilities."""

    engine: Literal["torch", "vllm"] = Field(
        default="torch",
        description="torch: the trainer's own model. vllm: an engine per rank, in an environment of its own.",
    )
    engine_memory: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Share of the device's memory for vllm; given back while the trainer works.",
    )
    sync_tolerance: float | None = Field(
        default=None,
        gt=0,
        description="Stop where the engine's log-probabilities differ by more from the trainer's, nats: after a sync, "
        "and in the mean over the first step. Default: 1e-3 in float32; 0.25 and 0.1 in bfloat16.",
    )
    sampler_correction: Literal["none", "truncate", "mask"] = Field(
        default="none",
        description="Importance weight of trainer against sampler on each token's loss, cut at the cap (truncate) or "
        "dropped outside 1/cap to cap (mask); no part of the ratio.",
    )
    sampler_correction_cap: float = Field(default=2.0, gt=1, description="Its cap.")


class BackendSettings(Section):
    """Where the policy is trained."""

    backend: Literal["torch", "deepspeed"] = Field(default="torch", description="torch: this process alone.")
    nproc: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="Ranks to start on this host, one per GPU; torchrun's own number counts where it starts them. "
        "More than 1: deepspeed.",
    )
    zero_stage: int = Field(
        default=2,
        ge=0,
        le=3,
        description="What DeepSpeed spreads over the ranks: 0 nothing, 1 moments, 2 gradients too, 3 weights too.",
    )
    offload: Literal["none", "optimizer", "all"] = Field(
        default="none", description="Keep moments (zero_stage 1 up), or weights too (3), in the host's memory."
    )
    zero_bucket_size: Count | None = Field(
        default=None, description="Elements per collective. Default: 2000000 on the CPU, 500000000 on a GPU."
    )
    phase_deadline_s: Positive = Field(
        default=1800.0,
        description="End the run when a rank makes no progress for this many seconds; must exceed one sampling round.",
    )


def check_scale(backend: BackendSettings, engine: EngineSettings, dtype: str) -> None:
    """Raise ValueError for settings of backend, engine and dtype that do not go together."""
    if backend.backend == "torch" and backend.nproc > 1:
        raise ValueError(
            f"--nproc {backend.nproc} needs --backend deepspeed, got torch, which is one process: pass it, or leave "
            "--nproc out"
        )
    if backend.backend == "deepspeed" and backend.zero_stage == 0 and dtype == "bfloat16":
        raise ValueError("--zero_stage 0 with --dtype bfloat16 keeps no float32 weights to step: use --zero_stage 1")
    least = {"none": 0, "optimizer": 1, "all": 3}[backend.offload]
    if backend.backend == "deepspeed" and backend.zero_stage < least:
        raise ValueError(
            f"--offload {backend.offload} needs --zero_stage {least} or above, got {backend.zero_stage}: raise it"
        )
    if engine.sampler_correction != "none" and engine.engine == "torch":
        raise ValueError(
            f"--sampler_correction {engine.sampler_correction} with --engine torch would count the same weights "
            "twice: there the trainer's own model draws the responses; leave it out, or use --engine vllm"
        )
