"""Bytes of GPU memory that a run takes per process: at its start, while responses are drawn, and while it trains.

Follows what this harness allocates. Each phase is the largest of a few moments, and each moment a sum of parts. What
PyTorch's allocator holds back beyond the tensors is not in it.
"""

from dataclasses import dataclass

from harness.backends.deepspeed_backend import GPU_BUCKET
from harness.plan.activations import Pass, trainer_pass
from harness.plan.job import GIB, Job
from harness.rollouts.decoding import FIRST_COLUMNS

CONTEXT = int(1.5 * GIB)  # assumed: CUDA context, libraries and NCCL's buffers
VLLM_OVERHEAD = 2 * GIB  # assumed: vLLM's activations and CUDA graphs within its share
LIVE_PARAMETERS = 1_000_000_000  # DeepSpeed's stage3_max_live_parameters, and its sub_group_size
# Per row and token of the vocabulary in rollouts/sampler.py: two float64; with top_p the probabilities, sorted ones,
# their order and which lie beyond, zeros, cut and scattered ones (8 bytes each but one; the sort's own work left out).
SAMPLER_BYTES, NUCLEUS_BYTES = 16, 49

PARTS = (
    "weights",
    "gradients",
    "optimizer",
    "DeepSpeed's buffers",
    "reference policy",
    "activations",
    "logits and head",
    "engine's weights",
    "KV cache",
    "engine's work",
    "optimizer's work",
    "CUDA context",
)
Parts = dict[str, int]  # bytes by name of PARTS


@dataclass(frozen=True)
class Moment:
    """What is held at a moment of a phase."""

    when: str
    parts: Parts

    @property
    def total(self) -> int:
        """Bytes."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Memory:
    """The largest moment of each phase."""

    start: Moment
    rollout: Moment
    trainer: Moment

    @property
    def phases(self) -> dict[str, Moment]:
        """By name."""
        return {"start": self.start, "rollout": self.rollout, "trainer": self.trainer}


def memory_of(job: Job) -> Memory:
    """The peaks of a job."""
    return Memory(largest(start(job)), largest(rollout(job)), largest(trainer(job)))


def largest(moments: list[Moment]) -> Moment:
    """The moment with the most bytes."""
    return max(moments, key=lambda moment: moment.total)


def fits(job: Job) -> bool:
    """Whether every phase has room, and vLLM for a response of full length."""
    room = job.gpu.memory_gib * GIB
    return all(moment.total <= room for moment in memory_of(job).phases.values()) and responses_at_once(job) >= 1


def per_rank(job: Job, numbers: int) -> int:
    """A rank's part of what is spread over all."""
    return -(-numbers // job.gpus)


def held(job: Job) -> Parts:
    """What the trainer holds from its first step on, whatever it does: weights, optimizer, gradients that stay.

    Torch's AdamW keeps two moments in the dtype of its parameters, and the gradients stay until the next step begins.
    DeepSpeed's stages 1 to 3 keep float32 weights besides, also beside float32 ones, and spread those, moments,
    gradients (2, 3) and weights (3) over the ranks; offloading takes them off the GPU.
    """
    stage, w, offload = job.zero_stage, job.width, job.config.backend.offload
    weights = job.frozen * w + job.trained * job.trained_width
    parts = {"CUDA context": CONTEXT, "reference policy": reference_bytes(job)}
    if stage == 0:
        moments = 2 * job.trained * job.trained_width
        return parts | {"weights": weights, "gradients": job.trained * job.trained_width, "optimizer": moments}
    share = per_rank(job, job.trained)
    parts["optimizer"] = 12 * share if offload == "none" else 0
    if stage < 3:
        return parts | {"weights": weights}
    parts["weights"] = 0 if offload == "all" else per_rank(job, weights)
    parts["gradients"] = w * share if offload == "none" else 0
    return parts | {"DeepSpeed's buffers": w * bucket(job)}


def reference_bytes(job: Job) -> int:
    """The initial policy, whole on every rank, where there is a KL term."""
    whole = job.frozen * job.width + job.trained * job.trained_width
    return whole if job.config.loss.beta > 0 else 0


def bucket(job: Job) -> int:
    """Numbers in a bucket of DeepSpeed."""
    return job.config.backend.zero_bucket_size or GPU_BUCKET


def gathered(job: Job) -> int:
    """Bytes of whole weights that stage 3 has gathered at a time: its limit, or the head and a layer if more."""
    if job.zero_stage < 3:
        return 0
    at_least = job.shape.embedding + job.shape.layer_parameters
    return job.width * min(job.shape.parameters, max(LIVE_PARAMETERS, at_least))


def engine_share(job: Job) -> int:
    """Bytes that vLLM takes while it is awake."""
    return int(job.config.engine.engine_memory * job.gpu.memory_gib * GIB)


def vllm_parts(job: Job) -> Parts:
    """vLLM's share: weights and work first, keys and values in what is left."""
    weights = job.shape.parameters * job.width
    room = max(0, engine_share(job) - weights - VLLM_OVERHEAD)
    return {"engine's weights": weights, "KV cache": room, "engine's work": VLLM_OVERHEAD}


def response_cache_bytes(job: Job) -> int:
    """Keys and values of one response of full length behind the longest prompt."""
    return job.full_tokens * job.shape.cache_bytes(job.width)


def responses_at_once(job: Job) -> float:
    """How many responses of full length a rank draws at a time; of torch's engine, which has no limit, all."""
    if job.config.engine.engine == "torch":
        return float(job.prompts_of_a_rank * job.config.rollout.group_size)
    return vllm_parts(job)["KV cache"] / response_cache_bytes(job)


def start(job: Job) -> list[Moment]:
    """vLLM starts and sleeps; then every rank loads the policy whole, and DeepSpeed takes it apart.

    Stages 1 and 2 copy it into a flat buffer.
    """
    moments = []
    if job.config.engine.engine == "vllm":
        moments.append(Moment("vLLM starts", {"CUDA context": CONTEXT} | vllm_parts(job)))
    whole = job.frozen * job.width + job.trained * job.trained_width
    parts = {"CUDA context": CONTEXT, "weights": whole, "reference policy": reference_bytes(job)}
    moments.append(Moment("the policy is on the GPU, whole", parts))
    if job.config.engine.engine != "vllm" and job.zero_stage == 3:
        parts = parts | {"engine's weights": job.shape.parameters * job.width}
    if job.zero_stage:
        optimizer = 4 * per_rank(job, job.trained) if job.config.backend.offload == "none" else 0
        flat = job.trained * job.width if job.zero_stage < 3 else 0
        parts = parts | {"optimizer": optimizer, "DeepSpeed's buffers": flat}
        moments.append(Moment("DeepSpeed takes the whole policy", parts))
    return moments


def rollout(job: Job) -> list[Moment]:
    """Drawing responses, with what the trainer holds beside them."""
    base = held(job)
    if job.config.engine.engine == "vllm":
        whole = 2 * job.shape.embedding * job.width  # gathered, and the copy that is handed over
        work = gathered(job) + trainer_pass(job).head_forward_bytes
        sync = base | vllm_parts(job) | {"logits and head": max(whole, work)}
        return [Moment("vLLM awake, new weights handed over and checked", sync)]
    if job.zero_stage == 3:
        base = base | {"engine's weights": job.shape.parameters * job.width}
    return [Moment(when, base | parts) for when, parts in torch_engine(job).items()]


def torch_engine(job: Job) -> dict[str, Parts]:
    """What torch's engine takes at its largest moments: rollouts/decoding.py, with every response at full length.

    A layer's keys are there twice as their store grows or rows leave it, all layers' as each response is given its
    prompt's. For every head and column attention has two numbers of the weights' width and one of 4 bytes, or two of 4.
    """
    shape, w, prompts = job.shape, job.width, job.prompts_of_a_rank
    rows = prompts * job.config.rollout.group_size
    read, full = prompts * job.prompt_tokens, rows * job.full_tokens
    laid = rows * job.prompt_tokens
    begun = rows * (job.prompt_tokens + min(FIRST_COLUMNS, job.response_tokens))
    of_prompts, of_begun, of_full = (tokens * shape.cache_bytes(w) for tokens in (read, begun, full))
    sampler = NUCLEUS_BYTES if job.config.evaluation.eval_top_p < 1 else SAMPLER_BYTES
    found = {
        "torch reads the prompts": (of_prompts, read * w * (3 * shape.intermediate + 4 * shape.hidden)),
        "torch gives each response its prompt": (of_prompts + of_begun, w * (read * shape.hidden + laid * shape.key)),
        "torch makes room in a layer's store": (of_full, full * shape.key * w),
        "torch attends at full length": (of_full, full * shape.heads * 8),
        "torch draws a token": (of_full, rows * shape.vocabulary * (w + sampler)),
    }
    return {when: {"KV cache": cache, "engine's work": work} for when, (cache, work) in found.items()}


def trainer(job: Job) -> list[Moment]:
    """Backward pass and optimizer step; vLLM sleeps, torch's own copy of the weights does not."""
    base = held(job)
    if job.config.engine.engine == "torch" and job.zero_stage == 3:
        base = base | {"engine's weights": job.shape.parameters * job.width}
    one = trainer_pass(job)
    busy = base | backward_buffers(job, base)
    kept = one.kept_bytes
    head = busy | {"activations": kept, "logits and head": one.head_work_bytes}
    layer = busy | {"activations": kept + one.layer_work_bytes, "logits and head": waiting_gradient(job, one)}
    forward = busy | {"activations": kept, "logits and head": one.head_forward_bytes}
    return [
        Moment("forward pass of the head", forward),
        Moment("backward pass of the head", head),
        Moment("backward pass of a layer", layer),
        Moment("optimizer step", base | step_parts(job)),
    ]


def backward_buffers(job: Job, base: Parts) -> Parts:
    """Gradients and DeepSpeed's buffers during a backward pass."""
    stage, w = job.zero_stage, job.width
    if stage == 0:
        return {}
    if stage == 3:
        copied = w * min(bucket(job), job.trained)  # the reduce-scatter's own copy of the bucket
        return {"DeepSpeed's buffers": base["DeepSpeed's buffers"] + copied + gathered(job)}
    if stage == 1:
        return {"gradients": w * job.trained, "DeepSpeed's buffers": w * bucket(job)}
    partition = w * per_rank(job, job.trained) if job.config.backend.offload == "none" else 0
    return {"gradients": partition, "DeepSpeed's buffers": 2 * w * bucket(job)}  # two in turn, for overlap


def waiting_gradient(job: Job, one: Pass) -> int:
    """A head's gradient that waits: for the embedding's where they are tied, or beside a bucket that is too small."""
    if one.lora_rank:
        return 0
    is_outside = job.zero_stage > 1 and job.shape.embedding > bucket(job)
    return job.width * job.shape.embedding * (job.shape.is_tied or is_outside)


def step_parts(job: Job) -> Parts:
    """What the optimizer step takes besides.

    `step_and_measure` goes tensor by tensor, and keeps two of its size in the weights' dtype and one in float64. Under
    DeepSpeed torch's AdamW steps all tensors at once on a GPU, with a copy of them.
    """
    if job.zero_stage == 0 and job.is_deepspeed:
        return {"optimizer's work": job.trained * job.trained_width}
    if job.zero_stage == 0:
        rank = job.config.model.lora_rank
        largest_tensor = rank * job.shape.intermediate if rank else job.shape.embedding
        return {"optimizer's work": (2 * job.trained_width + 8) * largest_tensor}
    if job.config.backend.offload != "none":
        return {}
    share = per_rank(job, job.trained)
    gradients = {1: job.trained, 2: share, 3: share}[job.zero_stage] * job.width
    wide = 8 * min(share, LIVE_PARAMETERS if job.zero_stage == 3 else share)  # float32 gradient, and AdamW's copy
    return {"gradients": gradients, "optimizer's work": wide}
