"""Tokens, FLOPs and hours of a training step, from the shape and a few assumptions that are printed beside them.

FLOPs are the ledger's (algorithm/metrics.py): 2 per parameter and token forward, 2 to the inputs and 2 to what is
trained backward. Because time depends on them, so are attention (2 queries x tokens per token and layer forward under a
causal mask, twice that backward), recomputation under checkpointing, and the head, whose product is in float32 (once
forward, three times backward: model/logprobs.py) and so runs at another speed.
"""

from dataclasses import dataclass

from harness.plan.job import Job
from harness.plan.memory import vllm_parts

LAUNCH_S = 0.6e-3  # assumed: launching a layer's kernels one by one in torch's engine, per token
INFORMATIVE = 0.5  # assumed: share of groups with both right and wrong answers


@dataclass(frozen=True)
class Assumptions:
    """What a plan cannot know."""

    mean_prompt_tokens: float
    mean_response_tokens: float
    sampling_rounds: int
    compute_share: float = 0.4  # of the data sheet's FLOP/s, in training and reading prompts
    bandwidth_share: float = 0.6  # of the data sheet's bytes/s, in drawing tokens

    @property
    def mean_tokens(self) -> float:
        return self.mean_prompt_tokens + self.mean_response_tokens


@dataclass(frozen=True)
class Work:
    """A part of a step, on all GPUs together."""

    name: str
    tokens: float
    flops: float
    seconds: float


def assumed(job: Job, given: dict[str, float | None]) -> Assumptions:
    """What is given, else: responses half as long as they may be, and rounds until enough groups hold both outcomes."""
    rollout = job.config.rollout
    needed = -(-rollout.prompts_per_step // max(1, int(job.prompts_per_round * INFORMATIVE)))
    rounds = min(rollout.max_sampling_rounds, needed) if rollout.dynamic_sampling else 1
    means = {"mean_prompt_tokens": job.mean_prompt, "mean_response_tokens": job.longest_response / 2}
    values = means | {name: value for name, value in given.items() if value is not None}
    return Assumptions(sampling_rounds=int(values.pop("sampling_rounds", rounds)), **values)


@dataclass(frozen=True)
class Passes:
    """How often the batch passes through the model, and what a pass costs per parameter and token."""

    count: int
    flops: float = 2.0  # per parameter and token
    recomputed: float = 0.0  # the same in the layers, under checkpointing
    attention: float = 1.0  # times its forward pass
    head_products: float = 1.0


def step_work(job: Job, given: Assumptions) -> list[Work]:
    """The parts of a training step, evaluations left out."""
    model = job.config.model
    trained_share = job.trained / job.shape.parameters if model.lora_rank else 1.0
    updates = Passes(
        job.config.optimizer.epochs,
        flops=4.0 + 2.0 * trained_share,
        recomputed=2.0 * model.gradient_checkpointing,
        attention=3.0 + model.gradient_checkpointing,
        head_products=3.0 if model.lora_rank else 4.0,  # a frozen head has no gradient of its own
    )
    return [
        generation(job, given),
        trainer_work("log-probabilities", Passes(job.config.forwards_per_token), job, given),
        trainer_work("updates", updates, job, given),
    ]


def attention_flops(job: Job, tokens: float, length: float) -> float:
    """Forward, of `tokens` in sequences of that length: each sees half of it, twice 2 FLOPs per query's number."""
    return 2.0 * job.shape.layers * job.shape.query * length * tokens


def seconds_of(job: Job, flops: float, tflops: float, given: Assumptions) -> float:
    """Time of FLOPs spread over all GPUs, whose data sheet says `tflops`."""
    return flops / (1e12 * given.compute_share * job.gpus * tflops)


def trainer_work(name: str, passes: Passes, job: Job, given: Assumptions) -> Work:
    """These passes over a filled batch. The head's product is in float32 whatever the weights are."""
    responses = passes.count * job.config.responses_per_step
    tokens, layers = responses * given.mean_tokens, job.shape.layers * job.shape.layer_parameters
    attention = passes.attention * attention_flops(job, tokens, given.mean_tokens)
    flops = (passes.flops * job.shape.parameters + passes.recomputed * layers) * tokens + attention
    in_layers = (passes.flops + passes.recomputed) * layers * tokens + attention
    in_head = 2.0 * passes.head_products * responses * given.mean_response_tokens * job.shape.embedding
    seconds = seconds_of(job, in_layers, job.tflops, given) + seconds_of(job, in_head, job.gpu.float32_tflops, given)
    return Work(name, tokens, flops, seconds)


def generation(job: Job, given: Assumptions) -> Work:
    """Drawing all rounds' responses: by what must be read for each token, or by FLOPs where those take longer."""
    prompts = given.sampling_rounds * job.prompts_per_round
    tokens = prompts * job.config.rollout.group_size * given.mean_response_tokens
    processed = tokens + prompts * given.mean_prompt_tokens
    flops = 2.0 * job.shape.parameters * processed + attention_flops(job, processed, given.mean_tokens)
    compute = seconds_of(job, flops, job.tflops, given)
    return Work("drawing responses", tokens, flops, max(compute, given.sampling_rounds * round_seconds(job, given)))


def round_seconds(job: Job, given: Assumptions) -> float:
    """Seconds of a round by the memory's bandwidth: a step reads the weights, and every row's keys and values.

    At least one response runs to the limit. vLLM draws as many rows at once as their keys and values have room for.
    """
    rows, per_token = float(job.rank_responses), job.shape.cache_bytes(job.width)
    together = rows
    if job.is_vllm:
        together = min(rows, max(1.0, vllm_parts(job)["KV cache"] / (given.mean_tokens * per_token)))
    steps = max(float(job.longest_response), rows * given.mean_response_tokens / together)
    behind = given.mean_prompt_tokens + given.mean_response_tokens / 2  # a row's tokens on average
    cache = rows * given.mean_response_tokens * behind * per_token
    moved = steps * job.shape.parameters * job.width + cache
    launches = 0.0 if job.is_vllm else steps * job.shape.layers * LAUNCH_S
    return moved / (job.gpu.bandwidth_tb_s * 1e12 * given.bandwidth_share) + launches
