"""Estimates a rank's GPU memory by phase. A phase's peak is the largest of several moments, each a sum of parts.

The activations follow transformers' modeling_qwen2.py, model/packing.py and model/logprobs.py on a GPU;
tests/harness/plan/test_peaks.py compares the peaks with those of live tensors on a CPU. On a GPU float32 attention
repeats keys and values for every query head. Left out: fragmentation, whatever is small beside a layer's activations,
and padding of texts of different length (at most a tenth more cells than tokens).
"""

from dataclasses import dataclass

from harness.model.logprobs import GPU_CHUNK_BYTES as CHUNK_BYTES
from harness.model.logprobs import KEPT_BYTES
from harness.plan.job import GIB, Job
from harness.rollouts.decoding import FIRST_COLUMNS

CONTEXT = int(1.5 * GIB)  # assumed: CUDA context, libraries and NCCL's buffers
VLLM_OVERHEAD = 2 * GIB  # assumed: vLLM's activations and CUDA graphs within its share
LIVE_PARAMETERS = 1_000_000_000  # DeepSpeed's stage3_max_live_parameters, and its sub_group_size
# Bytes per row and vocabulary entry in rollouts/sampler.py: two float64; with top_p six tensors of 8 bytes and a mask
# (probabilities, sorted, order, mask of the rest, zeros, masked, scattered), without the sort's own workspace.
SAMPLER_BYTES, NUCLEUS_BYTES = 16, 49

Parts = dict[str, int]  # bytes by name


@dataclass(frozen=True)
class Moment:
    """The memory in use at one moment of a phase."""

    when: str
    parts: Parts

    @property
    def total(self) -> int:
        return sum(self.parts.values())


class Pass:
    """Activation bytes of the largest micro-batch: texts of full length, each with its own prompt."""

    def __init__(self, job: Job) -> None:
        shape, w, rank, tokens = job.shape, job.width, job.config.model.lora_rank, job.micro_batch_tokens
        is_checkpointed = job.config.model.gradient_checkpointing
        responses = -(-tokens * job.longest_response // job.full_tokens)  # response tokens among them
        # Kept from the forward to the backward pass: each layer's activations, or with checkpointing only its input;
        # and behind the layers the last norm and the head's input.
        layer = tokens * layer_bytes(job)
        each = tokens * w * shape.hidden if is_checkpointed else layer
        self.kept = shape.layers * each + tokens * (4 + 2 * w) * shape.hidden
        # A layer's backward pass also needs recomputed activations, gradients of gate and up, and two gradients of the
        # residual stream; with adapters on a bfloat16 model these are in float32.
        in_flight = tokens * (8 if rank and w == 2 else 2 * w) * (shape.intermediate + shape.hidden)
        self.layer_work = in_flight + (layer if is_checkpointed else 0)
        self.head_forward, self.head_work = head_bytes(job, 4 * responses * shape.vocabulary)


def head_bytes(job: Job, logits: int) -> tuple[int, int]:
    """The peaks of model/logprobs.py in the forward and in the backward pass; `logits` is the size of all of them.

    Forward, logits and a product with them lie beside the probabilities. Backward, these become their own gradient, and
    a chunk's tensors live until the next one's replace them. The head's gradient is summed in float32. Under bfloat16 a
    chunk's gradient is split into two parts, and the product of each with the states is as large as the sum that it is
    added to.
    """
    chunk = min(CHUNK_BYTES, logits)
    held, before = logits if logits <= KEPT_BYTES else chunk, chunk if logits > chunk else 0
    of_head = 0 if job.config.model.lora_rank else 4 * job.shape.embedding
    backward = of_head + held + before
    if job.width == 2:
        backward = max(backward + 2 * chunk, 2 * of_head + held + chunk)
    return held + 2 * chunk, backward


def layer_bytes(job: Job) -> int:
    """Bytes per token that a layer keeps for its backward pass, within a few percent.

    For the two norms: inputs, normalised states and outputs. For attention: queries, keys, values and output. For the
    MLP: gate, silu(gate), up and their product. Frozen weights need neither inputs nor normalised states, but each
    adapter keeps its input in float32.
    """
    shape, w = job.shape, job.width
    key = shape.query if w == 4 else shape.key
    attention = w * (2 * shape.query + 2 * key)
    if not job.config.model.lora_rank:
        return (8 + 4 * w) * shape.hidden + attention + 4 * w * shape.intermediate
    # In float32 query, key and value share one input, so do gate and up, and the output map's is attention's output.
    shared = 2 * shape.hidden + shape.intermediate
    inputs = shared if w == 4 else sum(width for width, _ in shape.linears)
    return 8 * shape.hidden + attention + 3 * w * shape.intermediate + 4 * inputs


def peaks(job: Job) -> dict[str, Moment]:
    """The largest moment of each phase."""
    phases = {"rollout": rollout(job), "trainer": trainer(job)}
    return {name: max(moments, key=lambda moment: moment.total) for name, moments in phases.items()}


def held(job: Job) -> Parts:
    """What the trainer holds in every phase after its first step: weights, optimizer state and persistent gradients.

    torch's AdamW keeps two moments, and gradients until the next step begins, in float32, and float32 copies of weights
    in bfloat16. DeepSpeed's stages 1 to 3 copy float32 weights as well, and partition over the ranks: the copies and
    the moments, gradients from stage 2, weights in stage 3. Offloading moves them off the GPU. Every rank holds a whole
    reference policy and, in stage 3 with torch's engine, a whole copy of the weights to sample from.
    """
    stage, offload = job.zero_stage, job.config.backend.offload
    reference = job.model_bytes if job.config.loss.needs_reference else 0
    parts = {"CUDA context": CONTEXT, "reference policy": reference, "weights": job.model_bytes}
    if stage == 0:
        copies = 4 * job.trained if job.trained_width == 2 else 0
        return parts | {"gradients": 4 * job.trained, "optimizer": 8 * job.trained + copies}
    share = job.trained_per_rank
    parts["optimizer"] = 12 * share if offload == "none" else 0
    if stage < 3:
        return parts
    parts["weights"] = 0 if offload == "all" else -(-job.model_bytes // job.gpus)
    parts["gradients"] = 4 * share if offload == "none" else 0
    parts["engine's weights"] = 0 if job.is_vllm else job.shape.parameters * job.width
    return parts | {"DeepSpeed's buffers": job.bucket}


def gathered(job: Job) -> int:
    """Bytes of weights that stage 3 gathers at a time: up to its limit, or the head and a layer if those are larger."""
    if job.zero_stage < 3:
        return 0
    at_least = job.shape.embedding + job.shape.layer_parameters
    return job.width * min(job.shape.parameters, max(LIVE_PARAMETERS, at_least))


def vllm_parts(job: Job) -> Parts:
    """vLLM's share of the GPU while it is awake: weights and workspace; the rest is for keys and values."""
    weights = -(-job.shape.parameters // job.split) * job.width
    room = int(job.config.engine.engine_memory * job.gpu_bytes) - weights - VLLM_OVERHEAD
    return {"engine's weights": weights, "KV cache": max(0, room), "engine's work": VLLM_OVERHEAD}


def responses_at_once(job: Job) -> float:
    """Responses of full length that an engine samples at a time; torch's has no limit and samples all."""
    if job.is_vllm:
        return vllm_parts(job)["KV cache"] / job.response_cache
    return float(job.rank_responses)


def rollout(job: Job) -> list[Moment]:
    """Sampling responses, including what the trainer holds at the same time."""
    if not job.is_vllm:
        return [Moment(when, held(job) | parts) for when, parts in torch_engine(job).items()]
    whole = 2 * job.shape.embedding * job.width  # the gathered tensor, and the copy passed to vLLM
    loading = held(job) | vllm_parts(job) | {"logits and head": whole, "KV cache": 0}
    checked = held(job) | vllm_parts(job) | {"logits and head": gathered(job) + Pass(job).head_forward}
    return [Moment("new weights handed over to vLLM", loading), Moment("vLLM awake, new weights checked", checked)]


def torch_engine(job: Job) -> dict[str, Parts]:
    """The largest moments of rollouts/decoding.py, with every response at full length.

    One layer's keys exist twice while their store grows or rows are removed, and all layers' prompt keys while they are
    copied to each response. For every head and column attention holds two numbers in the weights' dtype and one of 4
    bytes, or two of 4 bytes.
    """
    shape, w, rows = job.shape, job.width, job.rank_responses
    read, laid, full = job.rank_prompts * job.longest_prompt, rows * job.longest_prompt, rows * job.full_tokens
    begun = laid + rows * min(FIRST_COLUMNS, job.longest_response)
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
    """Training: DeepSpeed's start, forward and backward passes, the optimizer step.

    vLLM is asleep; a torch engine's copy stays.
    """
    base, one = held(job), Pass(job)
    busy, kept = base | backward_buffers(job), one.kept
    # The head's gradient is kept until the embedding's is ready if they are tied, or if it does not fit the bucket.
    head = job.width * job.shape.embedding
    is_waiting = job.shape.is_tied or (job.zero_stage > 1 and head > job.bucket)
    waiting = head if is_waiting and not job.config.model.lora_rank else 0
    layer = {"activations": kept + one.layer_work, "logits and head": waiting}
    # stages 1 and 2 copy the policy into one buffer, before there are moments
    begun = {"optimizer": base["optimizer"] // 3, "DeepSpeed's buffers": job.trained * job.width}
    return [
        *([Moment("DeepSpeed starts", base | begun)] if job.zero_stage in (1, 2) else ()),
        Moment("forward pass of the head", busy | {"activations": kept, "logits and head": one.head_forward}),
        Moment("backward pass of the head", busy | {"activations": kept, "logits and head": one.head_work}),
        Moment("backward pass of a layer", busy | layer),
        Moment("optimizer step", base | step_parts(job)),
    ]


def backward_buffers(job: Job) -> Parts:
    """DeepSpeed's gradients and buffers during a backward pass; nothing in addition to `held` for torch and stage 0."""
    stage, bucket = job.zero_stage, job.bucket
    if stage == 0:
        return {}
    if stage == 1:
        return {"gradients": job.width * job.trained, "DeepSpeed's buffers": bucket}
    if stage == 3:
        # the reduce-scatter's own copy of the bucket, in float32; of bfloat16 gradients another one
        copied = min(bucket, job.width * job.trained) * (4 if job.width == 2 else 1)
        return {"DeepSpeed's buffers": bucket + copied + gathered(job)}
    partition = 4 * job.trained_per_rank if job.config.backend.offload == "none" else 0
    wide = 2 * bucket if job.width == 2 else 0  # reduced in float32
    return {"gradients": partition, "DeepSpeed's buffers": 2 * bucket + wide}  # two in turn, for overlap


def step_parts(job: Job) -> Parts:
    """What the optimizer step needs in addition to `held`.

    The torch backend steps one tensor at a time, with a copy of it and AdamW's own two temporaries in float32. Under
    DeepSpeed, torch's AdamW steps all tensors at once on a GPU, with a copy of them.
    """
    if job.zero_stage == 0:
        rank = job.config.model.lora_rank
        largest = rank * job.shape.intermediate if rank else job.shape.embedding
        return {"optimizer's work": 12 * largest}
    if job.config.backend.offload != "none":
        return {}
    share = job.trained_per_rank
    gradients = 4 * (job.trained if job.zero_stage == 1 else share)
    wide = 8 * min(share, LIVE_PARAMETERS if job.zero_stage == 3 else share)  # float32 gradient, and AdamW's copy
    return {"gradients": gradients, "optimizer's work": wide}
