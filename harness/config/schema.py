"""The settings of a run: one frozen tree, one section per concern, whose leaves are the command line's flags."""

from typing import Literal, Self

from pydantic import model_validator

from harness.config.base import Count, Positive, Section, setting, spelled
from harness.config.loss import LossSettings
from harness.config.scale import BackendSettings, EngineSettings, check_scale, check_temperatures
from harness.config.task import DataSettings, TaskSettings, check_task

MADE_HERE = "tiny", "smollm2-135m"  # models that a run's first start builds in the cache


class RunSettings(Section):
    """Length of the run, random seed, output and checkpoints."""

    seed: int = setting(0, "Keys every random draw of the run.", ge=0)
    steps: Count = setting(20, "Training steps: rounds of rollouts and the updates made from them.")
    token_budget: Count | None = setting(None, "End after the step that reaches this many generated tokens.")
    threads: Count = setting(1, "CPU threads. Results are bit-identical only for the same thread count.", le=1024)
    record_rollouts: Literal["all", "none"] = setting("all", "Which responses are stored.")
    checkpoint_every: Count = setting(10, "Training steps between checkpoints; the newest two are kept.")
    give_up_after: Count | None = setting(
        5, "Fail if no group of the first N steps had different rewards; none: never."
    )
    start_from: str | None = setting(None, "Checkpoint folder to begin from, with its optimizer and random draws.")
    output_dir: str | None = setting(None, "Run folder. Default: runs/<time>-<loss>-seed<seed>.")


class ModelSettings(Section):
    """The model to train, its precision and adapters."""

    model: str = setting(
        "tiny",
        "'tiny' (made here), smollm2-135m (from the package index), a transformers folder or a hub name.",
    )
    model_revision: str | None = setting(None, "Commit of a hub model. Default: the newest, recorded.")
    model_seed: int = setting(0, "Keys the initial weights and the warm start of 'tiny'.", ge=0)
    context_tokens: Count | None = setting(
        None, "Context length, if longer than the model's own, which is the default."
    )
    dtype: Literal["float32", "bfloat16"] = setting("float32", "Dtype of the weights.")
    device: Literal["auto", "cpu"] = setting("auto", "auto: the GPU, if there is one.")
    lora_rank: Count | None = setting(None, "Train LoRA adapters of this rank in every linear layer, not the weights.")
    lora_alpha: Count | None = setting(None, "Adapters are scaled by alpha / rank. Default: twice the rank.")
    gradient_checkpointing: bool = setting(False, "Recompute activations: less memory, a third more time.")


class RolloutSettings(Section):
    """How responses are sampled. Training never truncates sampling (top-p, top-k): that would bias the ratio."""

    prompts_per_step: Count = setting(32, "Prompts trained on per step.")
    group_size: int = setting(8, "Responses per prompt.", ge=2)
    max_response_tokens: Count = setting(72, "Tokens per response at most, the end token included.")
    temperature: Positive = setting(1.0, "Sampling temperature, in the trainer's ratios too.")
    dynamic_sampling: bool = setting(
        False, "Draw prompts until enough groups have right and wrong responses (DAPO eq. 11)."
    )
    max_sampling_rounds: Count = setting(3, "Rounds of dynamic sampling at most.")
    prompts_per_round: Count | None = setting(None, "Prompts per sampling round. Default: --prompts_per_step.")
    unfilled: Literal["train", "stop"] = setting("train", "What to do with a batch that the rounds did not fill.")


class OptimizerSettings(Section):
    """How the policy is updated from a batch of rollouts. AdamW throughout, as in every recipe."""

    lr: Positive = setting(3e-4, "Learning rate.", le=3.4e37)
    warmup_steps: int = setting(5, "Training steps of linear warm-up.", ge=0)
    weight_decay: float = setting(0.1, "AdamW's decoupled weight decay.", ge=0)
    grad_clip: Positive = setting(1.0, "Gradients are scaled down to this norm.")
    minibatches: Count = setting(8, "Optimizer steps per pass over the rollouts.")
    epochs: Count = setting(1, "Passes over each batch of rollouts.")
    micro_batch_size: Count | None = setting(None, "Responses per forward pass, or all.")
    micro_batch_tokens: Count | None = setting(
        None,
        "Most tokens per forward pass, prompts included, instead of a number of responses: responses are then "
        "packed by length, and one that is longer passes alone.",
    )
    noise_tolerance: float | None = setting(
        None,
        "Stop if ratios or influence weights under unchanged weights are further from 1 than this. Default: 0 on "
        "the CPU, 1e-5 in float32 and 1e-3 in bfloat16 on a GPU.",
        ge=0,
    )
    skip_nonfinite: int = setting(
        0, "Updates with a non-finite loss or gradient that are skipped over the run; one more and it fails.", ge=0
    )
    allow_inert: bool = setting(False, "Allow fipo with one update per rollout, where it equals dapo.")


class EvaluationSettings(Section):
    """Evaluations on held-out prompts, which are always the same."""

    eval_every: Count = setting(2, "Training steps between evaluations.")
    eval_prompts: Count = setting(256, "Held-out prompts.")
    eval_split: Literal["report", "tune"] = setting(
        "report", "Held-out prompts to report results on, or others to tune settings on. Neither is trained on."
    )
    eval_samples: Count = setting(1, "Answers per prompt.")
    final_evaluations: Count = setting(3, "How many of the last evaluations take more answers.")
    final_eval_samples: Count = setting(8, "Answers per prompt in those.")
    eval_temperature: Positive = setting(1.0, "Sampling temperature of evaluations.")
    eval_top_p: float = setting(1.0, "Nucleus of evaluations (0.7 in the FIPO paper).", gt=0, le=1)


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
        """Optimizer steps per batch of rollouts."""
        return self.optimizer.minibatches * self.optimizer.epochs

    @property
    def on_policy_note(self) -> str:
        """What to know of losses of a ratio that is always 1; empty where it is not."""
        if self.updates_per_rollout > 1:
            return ""
        return (
            "with one update per rollout every ratio is 1, where nearly all losses have GRPO's gradient and differ in "
            "averaging and advantages alone: raise --minibatches or --epochs to compare losses"
        )

    @property
    def responses_per_step(self) -> int:
        """Responses in a full batch."""
        return self.rollout.prompts_per_step * self.rollout.group_size

    @property
    def forwards_per_token(self) -> int:
        """Forward passes without gradient over each trained token of a step.

        Old and reference log-probabilities once, sequence filter and placebo in every epoch. The pass that is left out
        where the first update gives the old ones is counted.
        """
        loss = self.loss
        return 1 + loss.needs_reference + self.optimizer.epochs * (loss.sequence_filter + loss.has_placebo)

    @model_validator(mode="after")
    def check_batches(self) -> Self:
        """Reject numbers of prompts and responses that do not divide evenly."""
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
                f"--micro_batch_size {micro} and --micro_batch_tokens {self.optimizer.micro_batch_tokens} both set "
                "the size of a micro-batch: leave one out"
            )
        if (asked := self.rollout.prompts_per_round or prompts) < prompts:
            raise ValueError(f"--prompts_per_round {asked} must be at least --prompts_per_step {prompts}: raise it")
        return self

    @model_validator(mode="after")
    def check_combinations(self) -> Self:
        """Reject combinations of settings that are not supported."""
        check_scale(self.backend, self.engine)
        sampled = {"temperature": self.rollout.temperature, "eval_temperature": self.evaluation.eval_temperature}
        check_temperatures(self.engine, **sampled)
        if self.model.lora_alpha and self.model.lora_rank is None:
            raise ValueError("--lora_alpha needs --lora_rank, got none: pass --lora_rank 16, or leave it out")
        check_task(self.task, self.data, self.rollout.max_response_tokens)
        given = self.model.dtype, spelled(self.model.lora_rank), self.backend.backend, self.loss.beta
        if self.run.start_from and given != ("float32", "none", "torch", 0):
            raise ValueError(
                "--start_from needs --dtype float32, --lora_rank none, --backend torch and --beta 0, got "
                f"{', '.join(map(str, given))}: set these"
            )
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


def section_of() -> dict[str, str]:
    """Each flag's section. Flags are unique over all sections."""
    return {flag: name for name, section in sections().items() for flag in section.model_fields}
