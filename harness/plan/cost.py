"""Tokens, FLOPs and hours of a training step, from the shape and a few assumptions that are printed beside them.

FLOPs are the ledger's (algorithm/metrics.py): 2 per parameter and token forward, 2 to the inputs and 2 to what is
trained backward. Besides, since time hangs on them: attention, 2 queries x tokens per token and layer forward under a
causal mask and twice that backward; recomputation under checkpointing; and the head, whose product is in float32
(forward once, backward three times: model/logprobs.py) and so runs at another speed.
"""

from dataclasses import dataclass

from harness.config.schema import Config
from harness.plan.job import Job
from harness.plan.memory import vllm_parts
from harness.tasks.chain_sum import CHAIN_SUMS

LAUNCH_S = 0.6e-3  # assumed: a layer's kernels started one by one by torch's engine, per token
INFORMATIVE = 0.5  # assumed: share of groups with both right and wrong answers
MATH_PROMPT_TOKENS = 200  # assumed: a competition problem with its instructions


@dataclass(frozen=True)
class Assumptions:
    """What a plan cannot know."""

    mean_prompt_tokens: float
    mean_response_tokens: float
    sampling_rounds: int
    compute_share: float  # of the data sheet's FLOP/s, in training and reading prompts
    bandwidth_share: float  # of the data sheet's bytes/s, in drawing tokens


@dataclass(frozen=True)
class Work:
    """One part of a step, on all GPUs together."""

    name: str
    tokens: float
    flops: float  # as the ledger counts them, attention and recomputation besides
    seconds: float
    head_seconds: float = 0.0  # of those, the head's product in float32


def assumed(config: Config, given: dict[str, float | None]) -> Assumptions:
    """The assumptions, defaults where nothing is given: responses half as long as they may be."""
    rollout = config.rollout
    asked = rollout.prompts_per_round or rollout.prompts_per_step
    needed = -(-rollout.prompts_per_step // max(1, int(asked * INFORMATIVE)))
    rounds = min(rollout.max_sampling_rounds, needed) if rollout.dynamic_sampling else 1
    defaults = {
        "mean_prompt_tokens": mean_prompt(config),
        "mean_response_tokens": rollout.max_response_tokens / 2,
        "sampling_rounds": float(rounds),
        "compute_share": 0.4,
        "bandwidth_share": 0.6,
    }
    values = defaults | {name: value for name, value in given.items() if value is not None}
    return Assumptions(
        values["mean_prompt_tokens"],
        values["mean_response_tokens"],
        int(values["sampling_rounds"]),
        values["compute_share"],
        values["bandwidth_share"],
    )


def mean_prompt(config: Config) -> float:
    """Tokens of a prompt: of a chain sum two per term and a colon."""
    if config.task.task == "math":
        return float(min(MATH_PROMPT_TOKENS, config.data.max_prompt_tokens))
    return sum(CHAIN_SUMS[config.task.task].terms) + 1.0


def forward_passes(config: Config) -> int:
    """Passes without gradient over what is trained on, as in the ledger: old, reference, sequence filter, placebo."""
    is_placebo = config.loss.loss_type == "fipo" and config.loss.fipo_placebo != "none"
    return 1 + (config.loss.beta > 0) + config.optimizer.epochs * (config.loss.sequence_filter + is_placebo)


def step_work(job: Job, assumptions: Assumptions) -> list[Work]:
    """The parts of a training step, evaluations left out."""
    return [generation(job, assumptions), scoring(job, assumptions), updating(job, assumptions)]


def attention_flops(job: Job, tokens: float, length: float) -> float:
    """Forward, of `tokens` in sequences of that length: each sees half of it, twice 2 FLOPs per query's number."""
    return 2.0 * job.shape.layers * job.shape.query * length * tokens


def body_seconds(job: Job, flops: float, share: float) -> float:
    """Time of FLOPs in the weights' dtype on all GPUs."""
    return flops / (1e12 * share * job.gpus * (job.gpu.bfloat16_tflops if job.width == 2 else job.gpu.float32_tflops))


def head_seconds(job: Job, products: float, tokens: float, share: float) -> float:
    """Time of so many products of head and states on all GPUs, in float32 whatever the weights are."""
    flops = 2.0 * products * tokens * job.shape.embedding
    return flops / (1e12 * share * job.gpus * job.gpu.float32_tflops)


def trained_rows(job: Job) -> int:
    """Responses of a filled batch."""
    return job.config.responses_per_step


def scoring(job: Job, given: Assumptions) -> Work:
    """Passes without gradient over the batch."""
    passes, responses = forward_passes(job.config), trained_rows(job)
    length = given.mean_prompt_tokens + given.mean_response_tokens
    tokens = responses * length
    flops = passes * (2.0 * job.shape.parameters * tokens + attention_flops(job, tokens, length))
    body = passes * (2.0 * body_parameters(job) * tokens + attention_flops(job, tokens, length))
    head = head_seconds(job, passes, responses * given.mean_response_tokens, given.compute_share)
    seconds = body_seconds(job, body, given.compute_share) + head
    return Work("log-probabilities", passes * tokens, flops, seconds, head)


def updating(job: Job, given: Assumptions) -> Work:
    """Forward and backward passes, under checkpointing with every layer's forward pass once more."""
    epochs, responses = job.config.optimizer.epochs, trained_rows(job)
    length = given.mean_prompt_tokens + given.mean_response_tokens
    tokens = epochs * responses * length
    share = job.trained / job.shape.parameters if job.config.model.lora_rank else 1.0
    again = 2.0 * job.config.model.gradient_checkpointing
    attention = attention_flops(job, tokens, length) * (3.0 + again / 2)
    per_parameter = 4.0 + 2.0 * share
    flops = per_parameter * job.shape.parameters * tokens + again * body_parameters(job) * tokens + attention
    body = (per_parameter + again) * body_parameters(job) * tokens + attention
    products = 4.0 if not job.config.model.lora_rank else 3.0  # a frozen head has no gradient of its own
    head = head_seconds(job, products, epochs * responses * given.mean_response_tokens, given.compute_share)
    return Work("updates", tokens, flops, body_seconds(job, body, given.compute_share) + head, head)


def body_parameters(job: Job) -> int:
    """Parameters of the layers."""
    return job.shape.layers * job.shape.layer_parameters


def generation(job: Job, given: Assumptions) -> Work:
    """Drawing all rounds' responses: by what must be read for each token, or by FLOPs where those take longer.

    As many rows at once as their keys and values have room for; at least one response runs to the limit.
    """
    group = job.config.rollout.group_size
    prompts = given.sampling_rounds * job.prompts_per_round
    responses = prompts * group
    tokens = responses * given.mean_response_tokens
    read = prompts * given.mean_prompt_tokens
    length = given.mean_prompt_tokens + given.mean_response_tokens
    flops = 2.0 * job.shape.parameters * (tokens + read) + attention_flops(job, tokens + read, length)
    compute = body_seconds(job, flops, given.compute_share)
    memory = given.sampling_rounds * round_seconds(job, given)
    return Work("drawing responses", tokens, flops, max(compute, memory))


def round_seconds(job: Job, given: Assumptions) -> float:
    """Seconds of a round by memory's bandwidth: a step reads the weights, and every row's keys and values."""
    rows = job.prompts_of_a_rank * job.config.rollout.group_size
    together = rows_together(job, given)
    steps = max(float(job.response_tokens), rows * given.mean_response_tokens / together)
    mean = given.mean_prompt_tokens + given.mean_response_tokens / 2  # of what a row has behind it
    cache = rows * given.mean_response_tokens * mean * job.shape.cache_bytes(job.width)
    moved = steps * job.shape.parameters * job.width + cache
    launches = 0.0 if job.config.engine.engine == "vllm" else steps * job.shape.layers * LAUNCH_S
    return moved / (job.gpu.bandwidth_tb_s * 1e12 * given.bandwidth_share) + launches


def rows_together(job: Job, given: Assumptions) -> float:
    """Rows drawn at once: with vLLM as many responses of mean length as have room, at least one."""
    rows = float(job.prompts_of_a_rank * job.config.rollout.group_size)
    if job.config.engine.engine == "torch":
        return rows
    one = (given.mean_prompt_tokens + given.mean_response_tokens) * job.shape.cache_bytes(job.width)
    return min(rows, max(1.0, vllm_parts(job)["KV cache"] / one))
