"""Estimates tokens, FLOPs and hours of a training step from the model's shape and a few assumptions.

FLOPs are counted as in the ledger (algorithm/metrics.py): 2 per parameter and token in the forward pass, and in the
backward pass 2 for gradients of inputs and 2 for those of trained weights. In addition to the ledger this counts
attention (2 x query width x tokens per token and layer forward under a causal mask, twice that backward) and the
recomputation under checkpointing. The head's logits take one product forward and one more backward, and the gradient of
each factor one, in bfloat16 two (model/logprobs.py).
"""

from dataclasses import dataclass

from harness.plan.job import Job
from harness.plan.memory import vllm_parts

LAUNCH_S = 0.6e-3  # assumed: seconds to launch one layer's kernels for one token in torch's engine
INFORMATIVE = 0.5  # assumed: share of groups with both right and wrong answers


@dataclass(frozen=True)
class Assumptions:
    """Quantities that a plan cannot know and that the user can set."""

    mean_prompt_tokens: float
    mean_response_tokens: float
    sampling_rounds: int
    compute_share: float = 0.4  # share of the data sheet's FLOP/s reached in training and reading prompts
    bandwidth_share: float = 0.6  # share of the data sheet's bytes/s reached in sampling

    @property
    def mean_tokens(self) -> float:
        return self.mean_prompt_tokens + self.mean_response_tokens


@dataclass(frozen=True)
class Work:
    """Cost of a part of a step. Tokens and FLOPs are totals over all GPUs; seconds are wall-clock time."""

    name: str
    tokens: float
    flops: float
    seconds: float


def assumed(job: Job, given: dict[str, float | None]) -> Assumptions:
    """The assumptions that are given; by default responses have half the maximum length, and rounds fill the batch."""
    rollout = job.config.rollout
    needed = -(-rollout.prompts_per_step // max(1, int(job.prompts_per_round * INFORMATIVE)))
    rounds = min(rollout.max_sampling_rounds, needed) if rollout.dynamic_sampling else 1
    means = {"mean_prompt_tokens": job.mean_prompt, "mean_response_tokens": job.longest_response / 2}
    values = means | {name: value for name, value in given.items() if value is not None}
    return Assumptions(sampling_rounds=int(values.pop("sampling_rounds", rounds)), **values)


@dataclass(frozen=True)
class Passes:
    """How often the batch passes through the model, and what one pass costs."""

    count: int
    flops: float = 2.0  # per parameter and token
    recomputed: float = 0.0  # extra FLOPs per parameter and token in the layers, under checkpointing
    attention: float = 1.0  # in units of attention's forward pass
    head_products: float = 1.0  # matrix products with the head


def step_work(job: Job, given: Assumptions) -> list[Work]:
    """The parts of a training step, without evaluations."""
    model = job.config.model
    trained_share = job.trained / job.shape.parameters if model.lora_rank else 1.0
    updates = Passes(
        job.config.optimizer.epochs,
        flops=4.0 + 2.0 * trained_share,
        recomputed=2.0 * model.gradient_checkpointing,
        attention=3.0 + model.gradient_checkpointing,
        # a frozen head needs no gradient; one in float32 meets bfloat16 factors in two parts
        head_products=2.0 + (1 if model.lora_rank else 2) * (2 if model.dtype == "bfloat16" else 1),
    )
    return [
        generation(job, given),
        trainer_work("log-probabilities", Passes(job.config.forwards_per_token), job, given),
        trainer_work("updates", updates, job, given),
    ]


def attention_flops(job: Job, tokens: float, length: float) -> float:
    """Forward FLOPs of attention for `tokens` in sequences of `length`.

    On average a token sees half the sequence, at 4 FLOPs per seen token and element of the query.
    """
    return 2.0 * job.shape.layers * job.shape.query * length * tokens


def seconds_of(job: Job, flops: float, tflops: float, given: Assumptions) -> float:
    """Time for these FLOPs on all GPUs, each with `tflops` TFLOP/s according to its data sheet."""
    return flops / (1e12 * given.compute_share * job.gpus * tflops)


def trainer_work(name: str, passes: Passes, job: Job, given: Assumptions) -> Work:
    """Cost of these passes over a full batch."""
    responses = passes.count * job.config.responses_per_step
    tokens, layers = responses * given.mean_tokens, job.shape.layers * job.shape.layer_parameters
    attention = passes.attention * attention_flops(job, tokens, given.mean_tokens)
    flops = (passes.flops * job.shape.parameters + passes.recomputed * layers) * tokens + attention
    in_layers = (passes.flops + passes.recomputed) * layers * tokens + attention
    in_head = 2.0 * passes.head_products * responses * given.mean_response_tokens * job.shape.embedding
    return Work(name, tokens, flops, seconds_of(job, in_layers + in_head, job.tflops, given))


def generation(job: Job, given: Assumptions) -> Work:
    """Cost of sampling all rounds' responses; its time is limited by memory bandwidth or by FLOPs."""
    prompts = given.sampling_rounds * job.prompts_per_round
    tokens = prompts * job.config.rollout.group_size * given.mean_response_tokens
    processed = tokens + prompts * given.mean_prompt_tokens
    flops = 2.0 * job.shape.parameters * processed + attention_flops(job, processed, given.mean_tokens)
    compute = seconds_of(job, flops, job.tflops, given)
    return Work("drawing responses", tokens, flops, max(compute, given.sampling_rounds * round_seconds(job, given)))


def round_seconds(job: Job, given: Assumptions) -> float:
    """Seconds of a sampling round if memory bandwidth is the limit.

    Each decoding step reads the weights and every row's keys and values, of which GPUs that share an engine have a part
    each. At least one response is assumed to reach the token limit. vLLM decodes as many rows at once as fit into its
    cache.
    """
    rows, per_token = float(job.engine_responses), job.token_cache
    together = rows
    if job.is_vllm:
        together = min(rows, max(1.0, vllm_parts(job)["KV cache"] / (given.mean_tokens * per_token)))
    steps = max(float(job.longest_response), rows * given.mean_response_tokens / together)
    behind = given.mean_prompt_tokens + given.mean_response_tokens / 2  # mean tokens in a row's cache
    cache = rows * given.mean_response_tokens * behind * per_token
    moved = steps * job.shape.parameters * job.width / job.split + cache
    launches = 0.0 if job.is_vllm else steps * job.shape.layers * LAUNCH_S
    return moved / (job.gpu.bandwidth_tb_s * 1e12 * given.bandwidth_share) + launches
