"""The settings of a run: one frozen tree, one section per concern, whose leaves are the command line's flags."""

from typing import Any, Literal, Self, get_args

from pydantic import Field, model_validator

from harness.config.base import Count, Positive, Section
from harness.config.scale import BackendSettings, EngineSettings, check_scale
from harness.config.task import DataSettings, TaskSettings, check_task
from harness.errors import UsageError
from losses import LOSSES
from losses.advantages import AdvantageScale
from losses.averaging import Averaging

LossType = Literal["grpo", "dapo", "fipo"]
LOSS_TYPES: tuple[str, ...] = get_args(LossType)
DEFAULT_AVERAGING: dict[str, Averaging] = {
    "grpo": "sequence_mean",  # DeepSeekMath eq. 3
    "dapo": "token_mean",  # DAPO eq. 12
    "fipo": "token_mean",
}
OWN_PREFIXES = tuple(f"{name}_" for name in LOSS_TYPES)  # of settings that one loss alone has


class RunSettings(Section):
    """How long, where to, and with which random numbers."""

    seed: int = Field(default=0, ge=0, description="Keys every random draw of the run.")
    steps: Count = Field(default=20, description="Training steps: rounds of rollouts and the updates made from them.")
    token_budget: Count | None = Field(
        default=None,
        description="End after the step by which so many tokens have been generated, discarded ones included.",
    )
    threads: Count = Field(
        default=1, le=1024, description="CPU threads. Results are bit-identical only for the same thread count."
    )
    record_rollouts: Literal["all", "none"] = Field(default="all", description="Whether every response is stored.")
    checkpoint_every: Count = Field(default=10, description="Training steps between checkpoints; the newest two stay.")
    give_up_after: Count | None = Field(
        default=5,
        description="Fail if none of the first N steps had a group with different rewards; none: never.",
    )
    output_dir: str | None = Field(default=None, description="Run folder. Default: runs/<time>-<loss>-seed<seed>.")


class ModelSettings(Section):
    """What is trained."""

    model: str = Field(default="tiny", description="'tiny' (made here), a transformers folder or a hub name.")
    model_revision: str | None = Field(
        default=None, description="Commit of a hub model. Default: the newest, recorded."
    )
    model_seed: int = Field(default=0, ge=0, description="Keys the initial weights and the warm start of 'tiny'.")
    context_tokens: Count | None = Field(
        default=None,
        description="Context length, where the model's own config has a shorter one. Default: the model's.",
    )
    dtype: Literal["float32", "bfloat16"] = Field(default="float32", description="Dtype of the weights.")
    device: Literal["auto", "cpu"] = Field(default="auto", description="auto: the GPU, where there is one.")
    lora_rank: Count | None = Field(
        default=None, description="Train low-rank adapters (LoRA) of this rank in every linear layer, not the weights."
    )
    lora_alpha: Count | None = Field(
        default=None, description="Adapters are scaled by alpha / rank. Default: twice the rank."
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute activations in the backward pass. Less memory, a third more time."
    )


class RolloutSettings(Section):
    """How responses are sampled. Training never truncates sampling (top-p, top-k): that would bias the ratio."""

    prompts_per_step: Count = Field(default=32, description="Prompts trained on per step.")
    group_size: int = Field(default=8, ge=2, description="Responses per prompt.")
    max_response_tokens: Count = Field(default=72, description="Tokens per response at most, the end token included.")
    temperature: Positive = Field(default=1.0, description="Sampling temperature, in the trainer's ratios too.")
    dynamic_sampling: bool = Field(
        default=False,
        description="Draw prompts until enough groups have both right and wrong responses (DAPO eq. 11).",
    )
    max_sampling_rounds: Count = Field(default=3, description="Rounds of dynamic sampling at most.")
    prompts_per_round: Count | None = Field(
        default=None, description="Prompts drawn in each of those rounds. Default: as many as are trained on."
    )
    unfilled: Literal["train", "stop"] = Field(
        default="train", description="What to do with a batch that the rounds did not fill."
    )


class LossSettings(Section):
    """The loss, under the published page's names and with its defaults. Each source is in losses/."""

    loss_type: LossType = Field(default="grpo", description="Per-token formula.")
    averaging: Averaging = Field(
        default="sequence_mean", description="Token weights. Default: sequence_mean for grpo, else token_mean."
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
    fipo_decay_rate: float = Field(default=32.0, description="Half-life of the Future-KL discount, tokens, above 0.")
    fipo_clip_range: float | None = Field(
        default=0.2, description="How far an influence weight may lie from 1, 0 or above; 0 or none: no clipping."
    )
    fipo_clip_high_only: bool = Field(
        default=True, description="Weights in [1, 1 + range]; false: in [1 - range, 1 + range], range below 1."
    )
    fipo_safety_threshold: float | None = Field(
        default=4.0, description="Ratio, above 0, beyond which a negative token's weight is cut to [0.8, 1]."
    )
    fipo_filter_in_log_space: bool = Field(default=False, description="Filter on log-ratios, as the authors do.")
    fipo_weight_bound: float | None = Field(
        default=None,
        description="Largest weight, 1 or above, where the clip range is 0 or none (10 in the authors' code).",
    )
    fipo_placebo: Literal["none", "sign_mean", "shuffle_within", "shuffle_batch"] = Field(
        default="none",
        description="Take the credit out of the influence weights: their mean per sign of the advantage, or permuted "
        "within each response or over the optimizer step.",
    )

    @model_validator(mode="before")
    @classmethod
    def fill_dependent_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Write out the averaging that goes with the loss, and the upper clip bound that follows the lower."""
        values = dict(values)
        if values.get("averaging") is None:  # none for a loss without a default, which pydantic then refuses
            values["averaging"] = DEFAULT_AVERAGING.get(str(values.get("loss_type", "grpo")))
        if values.get("epsilon_high") is None:
            values["epsilon_high"] = values.get("epsilon", 0.2)
        return values

    @property
    def needs_reference(self) -> bool:
        """Whether the loss reads log-probabilities under the initial policy."""
        return self.beta > 0

    @property
    def has_placebo(self) -> bool:
        """Whether the loss's influence weights are replaced before they are used."""
        return self.loss_type == "fipo" and self.fipo_placebo != "none"

    def flag(self, field: str) -> str:
        """The flag that sets a field of the loss: shared fields bare, a loss's own with its prefix."""
        own = f"{self.loss_type}_{field}"
        return own if own in type(self).model_fields else {"epsilon_low": "epsilon"}.get(field, field)

    def loss_fields(self) -> dict[str, Any]:
        """The fields of `LOSSES[loss_type]` with the values set here. Raises UsageError for one without a setting."""
        flags = {field: self.flag(field) for field in LOSSES[self.loss_type].__dataclass_fields__}
        for field, flag in flags.items():
            if flag not in type(self).model_fields:
                own = f"{self.loss_type}_{field}"
                raise UsageError(f"--{own}: expected a setting for the loss's {field}, got none: add it to {__file__}")
        return {field: getattr(self, flag) for field, flag in flags.items()}


class OptimizerSettings(Section):
    """How the policy is updated from a batch of rollouts. AdamW throughout, as in every recipe."""

    lr: Positive = Field(default=3e-4, le=3.4e37, description="Learning rate.")
    warmup_steps: int = Field(default=5, ge=0, description="Training steps of linear warm-up.")
    weight_decay: float = Field(default=0.1, ge=0, description="AdamW's decoupled weight decay.")
    grad_clip: Positive = Field(default=1.0, description="Gradients are scaled down to this norm.")
    minibatches: Count = Field(default=8, description="Optimizer steps per pass over the rollouts.")
    epochs: Count = Field(default=1, description="Passes over each batch of rollouts.")
    micro_batch_size: Count | None = Field(default=None, description="Responses per forward pass, or all.")
    micro_batch_tokens: Count | None = Field(
        default=None,
        description="Most tokens per forward pass, prompts included, instead of a number of responses: responses are "
        "then packed by length, and one that is longer passes alone.",
    )
    noise_tolerance: float | None = Field(
        default=None,
        ge=0,
        description="Stop if ratios or influence weights under unchanged weights are further from 1 than this. "
        "Default: 0 on the CPU, 1e-5 in float32 and 1e-3 in bfloat16 on a GPU.",
    )
    skip_nonfinite: int = Field(
        default=0,
        ge=0,
        description="Updates with a non-finite loss or gradient that are skipped over the run; one more and it fails.",
    )
    allow_inert: bool = Field(
        default=False, description="Allow fipo with one update per rollout, where it equals dapo."
    )


class EvaluationSettings(Section):
    """How progress is measured, always on the same held-out prompts."""

    eval_every: Count = Field(default=2, description="Training steps between evaluations.")
    eval_prompts: Count = Field(default=256, description="Held-out prompts.")
    eval_split: Literal["report", "tune"] = Field(
        default="report",
        description="Which held-out prompts: those that results are reported on, or others to tune settings on. "
        "Neither is trained on.",
    )
    eval_samples: Count = Field(default=1, description="Answers per prompt.")
    final_evaluations: Count = Field(default=3, description="How many of the last evaluations take more answers.")
    final_eval_samples: Count = Field(default=8, description="Answers per prompt in those.")
    eval_temperature: Positive = Field(default=1.0, description="Sampling temperature of evaluations.")
    eval_top_p: float = Field(default=1.0, gt=0, le=1, description="Nucleus of evaluations (0.7 in the FIPO paper).")


class Config(Section):
    """The whole tree. `harness.config.resolve.resolve` builds it from presets, files and flags."""

    run: RunSettings = RunSettings()
    model: ModelSettings = ModelSettings()
    task: TaskSettings = TaskSettings()
    data: DataSettings = DataSettings()
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
        """Responses in a filled batch."""
        return self.rollout.prompts_per_step * self.rollout.group_size

    @property
    def forwards_per_token(self) -> int:
        """Forward passes without gradient over each trained token of a step.

        Old and reference log-probabilities once, sequence filter and placebo in every epoch.
        """
        loss = self.loss
        return 1 + loss.needs_reference + self.optimizer.epochs * (loss.sequence_filter + loss.has_placebo)

    @model_validator(mode="after")
    def check_batches(self) -> Self:
        """Refuse numbers of prompts and responses that do not divide."""
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
        if micro is not None and self.optimizer.micro_batch_tokens is not None:
            raise ValueError(
                f"--micro_batch_size {micro} and --micro_batch_tokens {self.optimizer.micro_batch_tokens} both say "
                "what passes through the model at a time: leave one out"
            )
        if (asked := self.rollout.prompts_per_round or prompts) < prompts:
            raise ValueError(f"--prompts_per_round {asked} must be at least --prompts_per_step {prompts}: raise it")
        return self

    @model_validator(mode="after")
    def check_combinations(self) -> Self:
        """Refuse settings that do not go together."""
        check_scale(self.backend, self.engine, self.model.dtype)
        if self.model.lora_alpha and self.model.lora_rank is None:
            raise ValueError("--lora_alpha needs --lora_rank, got none: pass --lora_rank 16, or leave it out")
        check_task(self.task, self.data, self.rollout.max_response_tokens)
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


def sections() -> dict[str, type[Section]]:
    return {name: field.annotation for name, field in Config.model_fields.items() if field.annotation}  # type: ignore[misc]


def is_anothers(flag: str, loss_type: str) -> bool:
    """Whether the flag belongs to another loss than this one."""
    return flag.startswith(OWN_PREFIXES) and not flag.startswith(f"{loss_type}_")


def section_of() -> dict[str, str]:
    """The section in which each flag lives. Flags are unique over the tree."""
    return {flag: name for name, section in sections().items() for flag in section.model_fields}
