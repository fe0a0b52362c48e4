"""How time and memory grow with the model and with the length of responses: each with its exponent, one thread.

An exponent is the slope of a line through logarithms: 1 is linear. Log-probabilities are taken forward and backward in
a process of each size's own, in turn with the model's attention and with one that looks at nothing: the difference is
the attention's. python -m benchmarks.size CASE measures one case.
"""

import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import report_scale
from benchmarks.loss_cost import SEQUENCES, drawn, forward_and_backward
from benchmarks.models import endless, random_policy
from benchmarks.resident import forget_peak, peak_mib
from benchmarks.table import Row
from benchmarks.timing import cpu_seconds, interleaved, one_thread
from harness.backends.torch_setup import set_up_torch
from harness.model.attention import Heads, Kind
from harness.model.packing import Packed, TokenBatch, pack_batch
from harness.model.policy import Policy
from harness.randomness import stream
from harness.rollouts.decoding import read_prompts
from harness.rollouts.sampler import Sampling, sample
from losses import FIPO

ROOT = Path(__file__).resolve().parents[1]
HIDDEN = (64, 128, 256, 512)
TEXTS, TEXT_TOKENS = 16, 128  # of every model size
LENGTHS = (256, 1024, 4096, 16_384)
SAMPLED = (256, 1024, 4096)
RUNS = (20, 50, 100)  # of a comparison, whole arms
PROMPT_TOKENS, GROUP_SIZE = 16, 8
POSITIONS = LENGTHS[-1] + PROMPT_TOKENS
ROUNDS = 3
LINEAR = 1.1  # the exponent of what counts as linear


@dataclass(frozen=True)
class Case:
    """Log-probabilities of so many texts of one length by a model of this width."""

    hidden: int = 64
    layers: int = 2
    texts: int = 1
    length: int = TEXT_TOKENS


@dataclass(frozen=True)
class Cost:
    """CPU seconds of the quickest run, with and without attention, peak memory above what was held before the model."""

    cpu_s: float
    blind_cpu_s: float
    peak_mib: float
    parameters: int


@dataclass(frozen=True)
class Growth:
    """What something costs at every size, and whether it is to be linear at most."""

    name: str
    unit: str
    costs: Sequence[float]
    is_linear: bool = False


@dataclass(frozen=True)
class Blind(Packed):
    """Texts whose tokens see themselves alone: all that a layer does, but for the attention."""

    def attend(self, layer: int, states: tuple[Heads, Heads, Heads], kind: Kind) -> Tensor:  # noqa: ARG002
        """A sum, so that queries, keys and values all have gradients."""
        query, key, value = states
        own = (key + value).repeat_interleave(query.shape[1] // key.shape[1], dim=1)
        return (query + own).transpose(1, 2)


def rows(
    hidden: Sequence[int] = HIDDEN,
    lengths: Sequence[int] = LENGTHS,
    sampled: Sequence[int] = SAMPLED,
    runs: Sequence[int] = RUNS,
) -> Iterator[Row]:
    """Model size, response length, sampling, the loss, runs."""
    yield from by_model(hidden)
    yield from by_length(lengths)
    with one_thread():
        yield from by_sampled_length(sampled)
        yield from by_loss_length(lengths)
    yield from by_runs(runs)


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The slope of the least-squares line through the logarithms; NaN where noise left a cost of 0 or less."""
    if min(costs) <= 0:
        return float("nan")
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def by_model(hidden: Sequence[int]) -> Iterator[Row]:
    """Four layers of growing width."""
    print(f"log-probabilities forward and backward, hidden {', '.join(map(str, hidden))} ...", flush=True)
    costs = [in_own_process(Case(width, layers=4, texts=TEXTS)) for width in hidden]
    time, _, _, memory = growths(costs)
    words = f"log-probabilities of {TEXTS} x {TEXT_TOKENS} tokens, parameters"
    yield from figures(words, [cost.parameters for cost in costs], [dataclasses.replace(time, is_linear=True), memory])


def by_length(lengths: Sequence[int]) -> Iterator[Row]:
    """One response of growing length, attention and everything else told apart."""
    print(f"log-probabilities forward and backward, a response of {lengths[0]:,} to {lengths[-1]:,} ...", flush=True)
    costs = [in_own_process(Case(length=length)) for length in lengths]
    yield from figures("log-probabilities of a response, tokens", lengths, growths(costs))


def growths(costs: Sequence[Cost]) -> list[Growth]:
    """The costs of log-probabilities by what they are."""
    return [
        Growth("CPU time", "ms", [1e3 * cost.cpu_s for cost in costs]),
        Growth("CPU time but for attention", "ms", [1e3 * cost.blind_cpu_s for cost in costs], is_linear=True),
        Growth("CPU time of attention", "ms", [1e3 * (cost.cpu_s - cost.blind_cpu_s) for cost in costs]),
        Growth("peak memory", "MiB", [cost.peak_mib for cost in costs], is_linear=True),
    ]


def by_sampled_length(lengths: Sequence[int]) -> Iterator[Row]:
    """A group of responses of growing length, with the attention alone on the same shapes taken off."""
    print(f"sampling {GROUP_SIZE} responses of {lengths[0]:,} to {lengths[-1]:,} tokens ...", flush=True)
    policy = endless(random_policy(max_position_embeddings=POSITIONS))
    whole = [sampling_seconds(policy, length) for length in lengths]
    attention = [decoding_attention_seconds(policy, length) for length in lengths]
    others = [1e3 * (both - one) for both, one in zip(whole, attention, strict=True)]
    per_token = [1e6 * seconds / (GROUP_SIZE * length) for seconds, length in zip(whole, lengths, strict=True)]
    found = [
        Growth("CPU time", "ms", [1e3 * seconds for seconds in whole]),
        Growth("CPU time but for attention", "ms", others, is_linear=True),
        Growth("CPU time of attention", "ms", [1e3 * seconds for seconds in attention]),
        Growth("CPU time per token", "us", per_token),
    ]
    yield from figures(f"sampling {GROUP_SIZE} responses, tokens", lengths, found)


def by_loss_length(lengths: Sequence[int]) -> Iterator[Row]:
    """FIPO's loss and its gradient, log-probabilities given."""
    print(f"FIPO's loss at {lengths[0]:,} to {lengths[-1]:,} tokens ...", flush=True)
    loss = FIPO(epsilon_high=0.28, delta=10.0)
    calls = {str(length): forward_and_backward(loss, drawn(SEQUENCES, length, "cpu")) for length in lengths}
    times = interleaved(calls, ROUNDS, clock=cpu_seconds)
    milliseconds = [1e3 * times[str(length)].minimum for length in lengths]
    words = f"FIPO's loss of {SEQUENCES} responses, tokens"
    yield from figures(words, lengths, [Growth("CPU time", "ms", milliseconds, is_linear=True)])


def by_runs(counts: Sequence[int]) -> Iterator[Row]:
    """`analysis report` on a comparison of made-up runs; a part that no run adds to makes its exponent small."""
    print(f"reports on {', '.join(map(str, counts))} runs ...", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        seconds = [report_seconds(Path(folder) / str(count), count) for count in counts]
    words = f"report on a comparison of runs of {report_scale.STEPS} steps, runs"
    yield from figures(words, counts, [Growth("CPU time", "s", seconds, is_linear=True)])


def report_seconds(folder: Path, runs: int) -> float:
    """CPU seconds of a report in a process of its own."""
    study = report_scale.write_study(folder / "study", runs)
    before = children_seconds()
    report_scale.drawn(study, folder / "report")
    return children_seconds() - before


def children_seconds() -> float:
    """CPU seconds of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def figures(words: str, sizes: Sequence[int], found: Sequence[Growth]) -> Iterator[Row]:
    """Every cost at every size, and its exponent; small sizes flatten that, so the end's is told beside the judged."""
    for one in found:
        for size, cost in zip(sizes, one.costs, strict=True):
            yield Row(f"{words} {size:,}: {one.name}", cost, one.unit)
    for one in found:
        at_most = LINEAR if one.is_linear else None
        yield Row(f"{words}: exponent of {one.name}", exponent(sizes, one.costs), "", at_most=at_most)
        ends = exponent(sizes[-2:], one.costs[-2:])
        yield Row(f"{words}: exponent of {one.name}, the two largest alone", ends, "")


def in_own_process(case: Case) -> Cost:
    """`measure` in a new process, so that its peak of memory is its own."""
    command = [sys.executable, "-m", "benchmarks.size", json.dumps(dataclasses.asdict(case))]
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return Cost(**json.loads(result.stdout))


def measure(case: Case) -> Cost:
    """The cost of a forward and a backward pass as a run takes them."""
    set_up_torch(threads=1)
    passes(random_policy(), made_up(Case()))  # libraries are up before memory is read
    forget_peak()
    before = peak_mib()
    policy = random_policy(
        hidden_size=case.hidden,
        num_hidden_layers=case.layers,
        intermediate_size=4 * case.hidden,
        max_position_embeddings=POSITIONS,
    )
    batch = made_up(case)
    passes(policy, batch)
    peak = peak_mib() - before
    blind = dataclasses.replace(batch, layout=Blind(batch.layout.texts, batch.layout.device))
    calls = {"whole": lambda: passes(policy, batch), "blind": lambda: passes(policy, blind)}
    times = interleaved(calls, ROUNDS, clock=cpu_seconds)
    parameters = sum(parameter.numel() for parameter in policy.model.parameters())
    return Cost(times["whole"].minimum, times["blind"].minimum, peak, parameters)


def made_up(case: Case) -> TokenBatch:
    """Texts of one prompt and a response each, of any tokens."""
    generator = stream("size benchmark")
    prompt, *responses = (
        generator.integers(2, 30, size).tolist() for size in [PROMPT_TOKENS, *[case.length] * case.texts]
    )
    return pack_batch([prompt] * case.texts, responses, torch.device("cpu"))


def passes(policy: Policy, batch: TokenBatch) -> None:
    """Log-probabilities and the gradient of their sum."""
    logprobs, _ = policy.logprobs(batch, 1.0)
    logprobs.sum().backward()
    policy.model.zero_grad()


def sampling_seconds(policy: Policy, length: int) -> float:
    """CPU seconds of a group of responses of this length, the better of two."""
    prompt = stream("size benchmark").integers(2, 30, PROMPT_TOKENS).tolist()
    uniforms = stream("size benchmark", length).random((GROUP_SIZE, length))
    return min(cpu_seconds(lambda: sample(policy, [prompt], uniforms, Sampling(length))) for _ in range(2))


@torch.inference_mode()
def decoding_attention_seconds(policy: Policy, length: int) -> float:
    """CPU seconds that the attention alone takes of them, on the same shapes, the better of two."""
    settings = policy.model.config
    decoding, _ = read_prompts(policy.model, [[2] * PROMPT_TOKENS], GROUP_SIZE, length)
    decoding.grow(decoding.limit)
    size = settings.hidden_size // settings.num_attention_heads
    heads = settings.num_attention_heads, settings.num_key_value_heads, settings.num_key_value_heads
    query, key, value = (torch.randn(GROUP_SIZE, count, 1, size) for count in heads)

    def run() -> None:
        for column in range(PROMPT_TOKENS, decoding.limit - 1):
            decoding.column = column
            for layer in range(settings.num_hidden_layers):
                decoding.attend(layer, (query, key, value), Kind(size**-0.5))

    return min(cpu_seconds(run) for _ in range(2))


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(measure(Case(**json.loads(sys.argv[1]))))))
