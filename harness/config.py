"""The settings of a run: one frozen tree, one section per concern, whose leaves are the command line's flags."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from losses import LOSSES
from losses.advantages import AdvantageScale
from losses.averaging import Averaging

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]

OWN_AVERAGING: dict[str, Averaging] = {"grpo": "sequence_mean", "dapo": "token_mean", "fipo": "token_mean"}


class Section(BaseModel):
    """Unknown keys are errors, infinities and NaN too; a built section cannot change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def none_may_be_a_choice(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Read the absence of a value as the choice 'none' where there is one: a command line spells both alike."""
        choices = {name for name, field in cls.model_fields.items() if "none" in get_args(field.annotation)}
        for name, value in values.items():
            if isinstance(value, bool) and name in cls.model_fields and cls.model_fields[name].annotation is not bool:
                raise ValueError(f"--{name}: expected no boolean, got {str(value).lower()}")
        return {name: "none" if value is None and name in choices else value for name, value in values.items()}


class RunSettings(Section):
    """How long, where to, and with which random numbers."""

    seed: int = Field(default=0, ge=0, description="Keys every random draw of the run.")
    steps: Count = Field(default=20, description="Training steps: rounds of rollouts and the updates made from them.")
    token_budget: Count | None = Field(
        default=None,
        description="End after the step by which so many tokens have been generated, discarded ones included.",
    )
    threads: Count = Field(default=1, le=1024, description="CPU threads; other counts give other last bits.")
    record_rollouts: Literal["all", "none"] = Field(default="all", description="Which steps' responses are stored.")
    checkpoint_every: Count = Field(default=10, description="Training steps between checkpoints; the newest two stay.")
    output_dir: str | None = Field(default=None, description="Run folder. Default: runs/<time>-<loss>-seed<seed>.")


class ModelSettings(Section):
    """What is trained."""

    model: str = Field(default="tiny", description="'tiny' (made here), a transformers folder or a hub name.")
    model_revision: str | None = Field(
        default=None, description="Commit of a hub model. Default: the newest, recorded."
    )
    model_seed: int = Field(default=0, ge=0, description="Keys the initial weights and the warm start of 'tiny'.")
    dtype: Literal["float32", "bfloat16"] = Field(default="float32", description="Dtype of the weights.")
    device: Literal["auto", "cpu"] = Field(default="auto", description="auto: the GPU, where there is one.")
    lora_rank: Count | None = Field(
        default=None, description="Train low-rank adapters of this rank in every linear layer, not the weights."
    )
    lora_alpha: Count | None = Field(
        default=None, description="Adapters are scaled by alpha / rank. Default: twice the rank."
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Keep no activations: compute them again backward. Less memory, a third more time."
    )


class TaskSettings(Section):
    """What is asked, and what is paid for an answer."""

    task: Literal["graded_chain_sum", "keyed_chain_sum"] = Field(
        default="graded_chain_sum",
        description="Problem generator; the keyed one is easier.",
    )
    overlong_buffer: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Soft overlong penalty: tokens before the limit over which it grows (DAPO eq. 13)."
    )
    overlong_factor: Positive = Field(default=1.0, description="Size of the overlong penalty at the limit.")
    control: Literal["none", "blame", "random_reward"] = Field(
        default="none",
        description="Planted control. blame: a negative advantage falls only on the first wrong step of a response. "
        "random_reward: the reward is a coin toss.",
    )


class RolloutSettings(Section):
    """How responses are drawn. Sampling is never truncated (top-p, top-k) in training: it would bias the ratio."""

    prompts_per_step: Count = Field(default=32, description="Prompts trained on per step.")
    group_size: int = Field(default=8, ge=2, description="Responses per prompt.")
    max_response_tokens: Count = Field(default=72, description="Tokens per response at most, the end token included.")
    temperature: Positive = Field(default=1.0, description="Sampling temperature, in the trainer's ratios too.")
    dynamic_sampling: bool = Field(
        default=False,
        description="Draw prompts until enough groups hold both right and wrong (DAPO eq. 11).",
    )
    max_sampling_rounds: Count = Field(default=3, description="Rounds of dynamic sampling at most.")
    unfilled: Literal["train", "stop"] = Field(
        default="train", description="What to do with a batch that the rounds did not fill."
    )


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
        description="Stop where the engine's log-probabilities differ by more from the trainer's after a sync, nats. "
        "Default: 1e-3 in float32, 0.25 in bfloat16.",
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
    nproc: int = Field(default=1, ge=1, le=1024, description="Processes per host, one per GPU. More than 1: deepspeed.")
    hostfile: str | None = Field(
        default=None,
        description="Hosts to start on, a line 'HOST' or 'HOST slots=N' each, over ssh. Default: this one.",
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
        default=1800.0, description="End the run where a rank shows no progress for so long."
    )


class LossSettings(Section):
    """The loss, under the published page's names and with its defaults. Each source is in losses/."""

    loss_type: Literal["grpo", "dapo", "fipo"] = Field(default="grpo", description="Per-token formula.")
    averaging: Averaging = Field(
        default="sequence_mean",
        description="Token weights. Default: sequence_mean for grpo, else token_mean.",
    )
    epsilon: float = Field(default=0.2, description="Lower clip bound of the ratio, 1 - epsilon.")
    epsilon_high: float = Field(default=0.2, description="Upper clip bound, 1 + epsilon_high. Default: epsilon.")
    delta: float | None = Field(default=None, description="Dual clip for negative advantages; FIPO's token filter.")
    beta: float = Field(default=0.0, description="Weight of the KL to the initial policy (k3).")
    log_ratio_clamp: float | None = Field(default=None, description="Cut log-ratios at +- this (the authors: 20).")
    sequence_filter: bool = Field(
        default=False, description="Drop responses with two or more dual-clipped tokens, as the authors do."
    )
    advantage_scale: AdvantageScale = Field(default="group", description="Whose std divides advantages, if any.")
    advantage_std_eps: float = Field(default=1e-6, ge=0, description="Added to that std (page: 1e-4).")
    fipo_decay_rate: float = Field(default=32.0, description="Half-life of the Future-KL discount, tokens.")
    fipo_clip_range: float | None = Field(default=0.2, description="How far an influence weight may lie from 1.")
    fipo_clip_high_only: bool = Field(default=True, description="Weights in [1, 1 + range], none below 1.")
    fipo_safety_threshold: float | None = Field(
        default=4.0, description="Ratio above which a negative token's weight is cut to [0.8, 1]."
    )
    fipo_filter_in_log_space: bool = Field(default=False, description="Filter on log-ratios, as the authors do.")
    fipo_weight_bound: float | None = Field(
        default=None, description="Largest weight where the clip range is 0 or none (10 in the authors' code)."
    )

    @model_validator(mode="before")
    @classmethod
    def fill_what_depends(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Write out the averaging that goes with the loss, and the upper bound that follows the lower."""
        values = dict(values)
        if values.get("averaging") is None:
            values["averaging"] = OWN_AVERAGING.get(str(values.get("loss_type", "grpo")), "sequence_mean")
        if values.get("epsilon_high") is None:
            values["epsilon_high"] = values.get("epsilon", 0.2)
        return values

    def flag(self, field: str) -> str:
        """The flag that sets a field of the loss: shared fields bare, a loss's own with its prefix."""
        own = f"{self.loss_type}_{field}"
        return own if own in type(self).model_fields else {"epsilon_low": "epsilon"}.get(field, field)

    def loss_fields(self) -> dict[str, Any]:
        """The fields of `LOSSES[loss_type]` with the values set here."""
        return {field: getattr(self, self.flag(field)) for field in LOSSES[self.loss_type].__dataclass_fields__}


class OptimizerSettings(Section):
    """What is done with a batch of rollouts. AdamW throughout, as in every recipe."""

    lr: Positive = Field(default=3e-4, le=3.4e37, description="Learning rate.")
    warmup_steps: int = Field(default=5, ge=0, description="Training steps of linear warm-up.")
    weight_decay: float = Field(default=0.1, ge=0, description="AdamW's decoupled weight decay.")
    grad_clip: Positive = Field(default=1.0, description="Gradients are scaled down to this norm.")
    minibatches: Count = Field(default=8, description="Optimizer steps per pass over the rollouts.")
    epochs: Count = Field(default=1, description="Passes over each batch of rollouts.")
    micro_batch_size: Count | None = Field(default=None, description="Responses per forward pass, or all.")
    noise_tolerance: float | None = Field(
        default=None,
        ge=0,
        description="Stop where the same weights give ratios or influence weights further from 1. "
        "Default: 0 on the CPU, 1e-5 in float32 and 1e-3 in bfloat16 on a GPU.",
    )
    skip_nonfinite: int = Field(
        default=0,
        ge=0,
        description="Updates to leave out, over the run, where loss or gradient is not finite; one more and it fails.",
    )
    allow_inert: bool = Field(default=False, description="Allow fipo where it equals dapo.")


class EvaluationSettings(Section):
    """How progress is measured, always on the same held-out prompts."""

    eval_every: Count = Field(default=2, description="Training steps between evaluations.")
    eval_prompts: Count = Field(default=256, description="Held-out prompts.")
    eval_split: Literal["report", "tune"] = Field(
        default="report",
        description="Which held-out prompts: those that results are reported on, or others to choose settings by. "
        "Neither is trained on in the run.",
    )
    eval_samples: Count = Field(default=1, description="Answers per prompt.")
    final_evaluations: Count = Field(default=3, description="How many of the last evaluations take more answers.")
    final_eval_samples: Count = Field(default=8, description="Answers per prompt in those.")
    eval_temperature: Positive = Field(default=1.0, description="Sampling temperature of evaluations.")
    eval_top_p: float = Field(default=1.0, gt=0, le=1, description="Nucleus of evaluations (0.7 in the FIPO paper).")


class Config(Section):
    """The whole tree. `harness.settings.resolve` builds it from presets, files and flags."""

    run: RunSettings = RunSettings()
    model: ModelSettings = ModelSettings()
    task: TaskSettings = TaskSettings()
    rollout: RolloutSettings = RolloutSettings()
    engine: EngineSettings = EngineSettings()
    backend: BackendSettings = BackendSettings()
    loss: LossSettings = LossSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @property
    def updates_per_rollout(self) -> int:
        """Optimizer steps made from one batch of rollouts."""
        return self.optimizer.minibatches * self.optimizer.epochs

    @property
    def responses_per_step(self) -> int:
        """Responses in one sampling round, and in a filled batch."""
        return self.rollout.prompts_per_step * self.rollout.group_size

    @model_validator(mode="after")
    def check_across_fields(self) -> Self:
        """Refuse what no single field shows."""
        prompts, minibatches = self.rollout.prompts_per_step, self.optimizer.minibatches
        if prompts % minibatches:
            raise ValueError(
                f"--prompts_per_step {prompts} does not divide into --minibatches {minibatches}: "
                f"choose a multiple of {minibatches}, or other minibatches"
            )
        minibatch = self.responses_per_step // minibatches
        micro = self.optimizer.micro_batch_size
        if micro is not None and minibatch % micro:
            raise ValueError(
                f"--micro_batch_size {micro} does not divide the {minibatch} responses of a minibatch: "
                f"choose a divisor of {minibatch}"
            )
        self.check_backend()
        buffer, limit = self.task.overlong_buffer, self.rollout.max_response_tokens
        if buffer is not None and buffer >= limit:
            raise ValueError(f"--overlong_buffer {buffer} must be below --max_response_tokens {limit}: lower it")
        if self.loss.sequence_filter and self.loss.delta is None:
            raise ValueError(
                "--sequence_filter true needs --delta, got none: it drops responses with two or more tokens whose "
                "ratio exceeds delta; pass --delta 10, or --sequence_filter false"
            )
        if self.loss.loss_type == "fipo" and self.updates_per_rollout == 1 and not self.optimizer.allow_inert:
            raise ValueError(
                "--loss_type fipo with --minibatches 1 and --epochs 1 is inert: with one update per rollout every "
                "ratio is 1, so every influence weight is 1 and fipo equals dapo; raise --minibatches or --epochs, "
                "or pass --allow_inert true"
            )
        return self

    def check_backend(self) -> None:
        """Raise ValueError for settings of backend and engine that do not go together."""
        backend, engine, model = self.backend, self.engine, self.model
        if backend.backend == "torch" and (backend.nproc > 1 or backend.hostfile):
            asked = f"--hostfile {backend.hostfile}" if backend.hostfile else f"--nproc {backend.nproc}"
            raise ValueError(
                f"{asked} needs --backend deepspeed, got torch, which is one process: pass it, or leave it out"
            )
        if backend.backend == "deepspeed" and backend.zero_stage == 0 and model.dtype == "bfloat16":
            raise ValueError(
                "--zero_stage 0 with --dtype bfloat16 keeps no float32 weights to step: use --zero_stage 1"
            )
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
        if model.lora_alpha and model.lora_rank is None:
            raise ValueError("--lora_alpha needs --lora_rank, got none: pass --lora_rank 16, or leave it out")


def sections() -> dict[str, type[Section]]:
    """The sections of the tree by name."""
    return {name: field.annotation for name, field in Config.model_fields.items() if field.annotation}  # type: ignore[misc]


def section_of() -> dict[str, str]:
    """The section in which each flag lives. Flags are unique over the tree."""
    return {flag: name for name, section in sections().items() for flag in section.model_fields}
