"""Bytes that a Qwen2's forward pass keeps for its backward pass, as autograd saves them.

Derived from transformers' modeling_qwen2.py, model/packing.py and model/logprobs.py, and held against what autograd is
seen to save on a CPU (tests/harness/plan/test_activations.py). `w` is the width of the weights in bytes: 4
in float32, 2 in bfloat16. Per token and layer, h hidden, q queries, k keys, i intermediate, n heads:

    norm, twice        4 h of its input in float32, w h of the normalised, 4 of its root, w h of its output
    attention          w q of queries, w q of outputs (the output map's input), 2 w k of keys and values, 4 n of sums
    MLP                w i each of gate, silu(gate), up and their product

that is (8 + 4 w) h + w (2 q + 2 k + 4 i) + 8 + 4 n. In float32 the norm's input is the residual stream itself.
Qwen2.5-0.5B in bfloat16: 16 x 896 + 2 (2 x 896 + 2 x 128 + 4 x 4864) + 8 + 56 = 57,408 bytes a token and layer.

Several texts are gathered into blocks for attention and back from them, which makes the output map's input a copy: w q
more, (8 + 4 w) h + w (3 q + 2 k + 4 i) + 8 + 4 n; 59,200 bytes of that example. An adapter of a bfloat16 model copies
its input anyway, so there it is no more. The places of both gatherings, 8 + 8 bytes a token, serve all layers.

A GPU's kernels keep the same tensors, except that attention in float32 wants as many keys and values as queries there:
they are repeated, q in place of k. The padding of sums to multiples of 8 to 32 is left out.

Planned for is a pass of texts of full length, each with a prompt of its own. Texts that share a prompt read it once.
Left out: texts of several lengths stand in blocks that have up to a tenth more cells than tokens, so attention keeps up
to a tenth more; and the mask of a sliding window, w per pair of positions and layer.
"""

from dataclasses import dataclass

from harness.model.logprobs import CHUNK_BYTES
from harness.plan.job import Job
from harness.plan.shapes import ModelShape


@dataclass(frozen=True)
class Pass:
    """A micro-batch on its way through the model."""

    shape: ModelShape
    texts: int
    tokens: int  # of all texts
    response_tokens: int  # of those, the responses'
    width: int  # bytes of a weight
    is_checkpointed: bool = False
    lora_rank: int | None = None
    is_on_gpu: bool = True

    @property
    def layer_bytes(self) -> int:
        """Kept by one layer for its backward pass."""
        return self.tokens * (adapted_bytes if self.lora_rank else trained_bytes)(self)

    @property
    def kept_bytes(self) -> int:
        """Kept between forward and backward pass: each layer's activations, or under checkpointing its input alone.

        Before the first adapter nothing is trained, and the norm there keeps nothing.
        """
        if self.is_checkpointed:
            return self.shape.layers * self.tokens * self.width * self.shape.hidden + self.ends_bytes
        first_norm = self.tokens * (4 * self.shape.hidden + 4) if self.lora_rank else 0
        return self.shape.layers * self.layer_bytes - first_norm + self.ends_bytes

    @property
    def ends_bytes(self) -> int:
        """Before and after the layers: token ids, what all layers share, the last norm, the head's input.

        Of a response's token besides: the place before it, its normaliser, and a byte of the mask.
        """
        shape, w = self.shape, self.width
        norm = 4 * shape.hidden + 4 + (0 if self.lora_rank else w * shape.hidden)
        head = w * shape.hidden + 8 + 4 + 1
        return self.tokens * (8 + norm) + self.response_tokens * head + self.shared_bytes

    @property
    def shared_bytes(self) -> int:
        """Held for all layers: cosines and sines of the positions, and the places of several texts' gatherings."""
        return self.tokens * (2 * self.width * self.shape.head_dim + 16 * (self.texts > 1))

    @property
    def layer_work_bytes(self) -> int:
        """Beyond what is kept, in the backward pass of a layer: a recomputed layer, and gradients in flight.

        Those are of gate and up where the product's activation has been freed, 2 i, and 2 h of the residual stream. An
        adapter's are in float32: in bfloat16 the down map's input has three gradients, 4 + 2 + 2 bytes.
        """
        shape = self.shape
        inner, outer = (8, 8) if self.lora_rank and self.width == 2 else (2 * self.width, 2 * self.width)
        flight = self.tokens * (inner * shape.intermediate + outer * shape.hidden)
        return flight + (self.layer_bytes if self.is_checkpointed else 0)

    @property
    def head_work_bytes(self) -> int:
        """Beyond what is kept, in the head's backward pass: float32 copies of it and its gradient, two chunks."""
        copy = 4 if self.width == 2 else 0
        gradient = 0 if self.lora_rank else 4 + (2 if self.width == 2 else 0)
        return (copy + gradient) * self.shape.embedding + 2 * self.chunk_bytes

    @property
    def head_forward_bytes(self) -> int:
        """The same without gradient: a float32 copy of the head, three chunks of logits and probabilities."""
        return (4 if self.width == 2 else 0) * self.shape.embedding + 3 * self.chunk_bytes

    @property
    def chunk_bytes(self) -> int:
        """Logits at a time, float32."""
        return min(CHUNK_BYTES, 4 * self.response_tokens * self.shape.vocabulary)


def trained_bytes(one: Pass) -> int:
    """Per token and layer, where all weights are trained: the formula above."""
    shape, w = one.shape, one.width
    return (8 + 4 * w) * shape.hidden + w * (attention(one) + 4 * shape.intermediate) + 8 + 4 * shape.heads


def adapted_bytes(one: Pass) -> int:
    """Per token and layer, where adapters alone are trained: frozen weights need neither inputs nor normalised states.

    Each adapter keeps its input in float32, a copy of its own where the model is in bfloat16, and r numbers.
    """
    shape, w, rank = one.shape, one.width, one.lora_rank or 0
    norms = 8 * shape.hidden + 8
    # in float32 query, key and value share an input, so do gate and up, and the output map's is attention's own
    shared = 2 * shape.hidden + shape.intermediate
    inputs = shared if w == 4 else sum(width for width, _ in shape.linears)
    adapters = 4 * (inputs + rank * len(shape.linears))
    return norms + adapters + w * (attention(one) + 3 * shape.intermediate) + 4 * shape.heads


def attention(one: Pass) -> int:
    """Numbers that attention keeps per token: queries, outputs, keys and values, and outputs that are gathered back."""
    shape = one.shape
    key = shape.query if one.width == 4 and one.is_on_gpu else shape.key
    is_copied = one.texts > 1 and not (one.lora_rank and one.width == 2)
    return (2 + is_copied) * shape.query + 2 * key


def trainer_pass(job: Job) -> Pass:
    """The trainer's micro-batch at its longest."""
    model, tokens = job.config.model, job.tokens_at_once
    return Pass(
        job.shape,
        -(-tokens // job.full_tokens),
        tokens,
        -(-tokens * job.response_tokens // job.full_tokens),
        job.width,
        model.gradient_checkpointing,
        model.lora_rank,
    )
