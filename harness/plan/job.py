"""The job to plan for: a run's settings, its model's shape, and the GPUs it runs on."""

import math

from harness.backends.deepspeed_backend import GPU_BUCKET
from harness.config.schema import Config
from harness.errors import UsageError
from harness.plan.shapes import ModelShape
from harness.rollouts.vllm_engine import check_split
from harness.tasks.tiny import DEMONSTRATED

GIB = 2**30


class Job:
    """A run of `config` in `gpus` processes with one GPU each, and the sizes derived from it."""

    def __init__(self, config: Config, shape: ModelShape, gpus: int, gpu_gib: float) -> None:
        self.config, self.shape, self.gpus, self.gpu_gib = config, shape, gpus, gpu_gib
        self.gpu_bytes, self.hardware = int(gpu_gib * GIB), f"{gpus} x {gpu_gib:g} GiB"
        self.is_deepspeed = config.backend.backend == "deepspeed"
        self.is_vllm = config.engine.engine == "vllm"
        self.split = config.engine.rollout_tp  # GPUs that share one vLLM engine
        self.zero_stage = config.backend.zero_stage if self.is_deepspeed else 0

        self.width = {"float32": 4, "bfloat16": 2}[config.model.dtype]  # bytes of a weight
        rank = config.model.lora_rank
        self.trained = shape.adapters(rank) if rank else shape.parameters  # parameters that the optimizer changes
        self.trained_width = 4 if rank and not self.is_deepspeed else self.width  # DeepSpeed converts peft's float32
        self.trained_per_rank = -(-self.trained // gpus)  # if they are partitioned over the ranks
        self.model_bytes = self.trained * self.trained_width + (shape.parameters * self.width if rank else 0)

        self.bucket = self.width * (config.backend.zero_bucket_size or GPU_BUCKET)  # bytes of a DeepSpeed bucket

        self.longest_prompt = longest_prompt(config)
        self.longest_response = config.rollout.max_response_tokens
        self.full_tokens = self.longest_prompt + self.longest_response
        self.token_cache = -(-shape.kv_heads // self.split) * shape.cache_bytes(self.width) // shape.kv_heads
        self.response_cache = self.full_tokens * self.token_cache  # a GPU's bytes for a response of full length
        per_round = config.rollout.prompts_per_round if config.rollout.dynamic_sampling else None
        # on the rank that has the most
        self.rank_prompts = -(-(per_round or config.rollout.prompts_per_step) // gpus)
        self.rank_responses = self.rank_prompts * config.rollout.group_size
        self.engine_responses = self.rank_responses * self.split

        optimizer = config.optimizer
        share = -(-config.responses_per_step // optimizer.minibatches // gpus)  # responses per optimizer step and rank
        budget = optimizer.micro_batch_tokens
        if budget is None:
            self.rows = optimizer.micro_batch_size or share  # responses of full length in a micro-batch
        else:
            self.rows = min(share, max(1, budget // self.full_tokens))
        # with shorter responses a micro-batch fills the token budget completely
        self.micro_batch_tokens = max(self.rows * self.full_tokens, min(budget or 0, share * self.full_tokens))


def longest_prompt(config: Config) -> int:
    """Tokens of the longest prompt."""
    if config.task.is_demonstrated:
        return DEMONSTRATED[config.task.task].longest_prompt
    return config.data.max_prompt_tokens


def make_job(config: Config, shape: ModelShape, gpus: int | None, gpu_gib: float) -> Job:
    """The job on `gpus` GPUs (default: `nproc`) of that memory. Raises UsageError if the settings cannot run there."""
    count = config.backend.nproc if gpus is None else gpus
    if count < 1:
        raise UsageError(f"--gpus: expected 1 or more, got {count}")
    if not 0 < gpu_gib < math.inf:
        raise UsageError(f"--gpu_memory: expected a number above 0, got {gpu_gib:g}")
    job = Job(config, shape, count, gpu_gib)
    if count % job.split:
        raise UsageError(f"--gpus {count} does not divide by --rollout_tp {job.split}: choose a multiple")
    check_split((shape.heads, shape.kv_heads, shape.intermediate), job.split)
    if count > 1 and not job.is_deepspeed:
        raise UsageError(f"--gpus {count} needs --backend deepspeed, got torch, which is one process: pass it")
    positions = config.model.context_tokens or shape.positions
    if job.full_tokens > positions:
        raise UsageError(
            f"--max_response_tokens {config.rollout.max_response_tokens} after prompts of {job.longest_prompt} tokens "
            f"needs {job.full_tokens} positions, got a model with {positions}: lower it, or pass "
            f"--context_tokens {job.full_tokens}"
        )
    return job
