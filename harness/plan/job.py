"""What a plan is made for: the settings, the model's shape, and the GPUs."""

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

from harness.config.schema import Config
from harness.errors import UsageError
from harness.plan.shapes import ModelShape
from harness.tasks.chain_sum import CHAIN_SUMS

GPUS = Path(__file__).with_name("gpus.toml")
GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """A GPU as its data sheet describes it."""

    name: str
    memory_gib: float
    bfloat16_tflops: float  # dense
    float32_tflops: float  # without TensorFloat-32
    bandwidth_tb_s: float


@dataclass(frozen=True)
class Job:
    """A run of `config` on `gpus` processes, each with a GPU of its own."""

    config: Config
    shape: ModelShape
    gpus: int
    gpu: Gpu

    @property
    def width(self) -> int:
        """Bytes of a weight."""
        return {"float32": 4, "bfloat16": 2}[self.config.model.dtype]

    @property
    def is_deepspeed(self) -> bool:
        """Whether DeepSpeed trains."""
        return self.config.backend.backend == "deepspeed"

    @property
    def zero_stage(self) -> int:
        """0 where nothing is spread over the ranks."""
        return self.config.backend.zero_stage if self.is_deepspeed else 0

    @property
    def trained(self) -> int:
        """Parameters that the optimizer changes."""
        rank = self.config.model.lora_rank
        return self.shape.adapters(rank) if rank else self.shape.parameters

    @property
    def trained_width(self) -> int:
        """Bytes of a trained weight: peft makes adapters in float32, and DeepSpeed makes all bfloat16 again."""
        return 4 if self.config.model.lora_rank and not self.is_deepspeed else self.width

    @property
    def frozen(self) -> int:
        """Parameters beside the adapters."""
        return self.shape.parameters if self.config.model.lora_rank else 0

    @property
    def prompt_tokens(self) -> int:
        """Of the longest prompt: the limit, or a chain sum's `a2b0...:`, two characters a term and a colon."""
        task = self.config.task.task
        return self.config.data.max_prompt_tokens if task == "math" else 2 * CHAIN_SUMS[task].terms[1] + 1

    @property
    def response_tokens(self) -> int:
        """Of the longest response."""
        return self.config.rollout.max_response_tokens

    @property
    def full_tokens(self) -> int:
        """The longest prompt with the longest response."""
        return self.prompt_tokens + self.response_tokens

    @property
    def minibatch(self) -> int:
        """Responses of an optimizer step, of all ranks together."""
        return self.config.responses_per_step // self.config.optimizer.minibatches

    @property
    def share(self) -> int:
        """A rank's part of them, at most."""
        return -(-self.minibatch // self.gpus)

    @property
    def rows(self) -> int:
        """Responses of full length that pass through the trainer at a time; under a budget of tokens at least one."""
        settings = self.config.optimizer
        if settings.micro_batch_tokens is None:
            return settings.micro_batch_size or self.share
        return min(self.share, max(1, settings.micro_batch_tokens // self.full_tokens))

    @property
    def tokens_at_once(self) -> int:
        """Tokens that pass through the trainer at a time, at most: shorter responses fill a budget to its end."""
        budget = self.config.optimizer.micro_batch_tokens or 0
        return max(self.rows * self.full_tokens, min(budget, self.share * self.full_tokens))

    @property
    def prompts_per_round(self) -> int:
        """Prompts asked in a sampling round, of all ranks together."""
        rollout = self.config.rollout
        asked = rollout.prompts_per_round if rollout.dynamic_sampling else None
        return asked or rollout.prompts_per_step

    @property
    def prompts_of_a_rank(self) -> int:
        """The largest share of a rank in a sampling round."""
        return -(-self.prompts_per_round // self.gpus)


def find_gpu(name: str, memory_gib: float | None = None) -> Gpu:
    """The GPU of gpus.toml, with other memory where that is given. Raises UsageError."""
    known = known_gpus()
    if name not in known:
        raise UsageError(f"--gpu: expected one of {', '.join(known)}, got {name!r}")
    return known[name] if memory_gib is None else replace(known[name], memory_gib=memory_gib)


def known_gpus() -> dict[str, Gpu]:
    """Those of gpus.toml by name."""
    return {name: Gpu(**values) for name, values in tomllib.loads(GPUS.read_text(encoding="utf-8")).items()}


def make_job(config: Config, shape: ModelShape, gpus: int | None, gpu: Gpu) -> Job:
    """The job on `gpus` GPUs, by default one per process of one host. Raises UsageError."""
    count = config.backend.nproc if gpus is None else gpus
    if count < 1:
        raise UsageError(f"--gpus: expected 1 or more, got {count}")
    if count > 1 and config.backend.backend == "torch":
        raise UsageError(f"--gpus {count} needs --backend deepspeed, got torch, which is one process: pass it")
    job = Job(config, shape, count, gpu)
    positions = config.model.context_tokens or shape.positions
    if job.full_tokens > positions:
        raise UsageError(
            f"--max_response_tokens {job.response_tokens} behind prompts of {job.prompt_tokens} tokens needs "
            f"{job.full_tokens} positions, got a model with {positions}: lower it, or pass "
            f"--context_tokens {job.full_tokens}"
        )
    return job
