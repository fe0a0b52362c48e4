"""How much of what a micro-batch computes is padding, by lengths of the default task and of long reasoning."""

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.models import random_policy
from benchmarks.table import Row
from benchmarks.timing import one_thread
from harness.algorithm.batching import MicroBatch, plan_minibatches
from harness.cli.output import print_warm_start
from harness.config.resolve import resolve
from harness.model.packing import Packed
from harness.randomness import stream
from harness.rollouts.collect import Group, Response, collect
from harness.rollouts.engine import Actors, SamplerContext, TorchEngine
from harness.run.initial_model import initial_policy
from harness.tasks.chain_sum import CHAIN_SUMS
from harness.tasks.task import Grade, Problem

MEDIAN, SIGMA, LONGEST = 2000, 1.0, 16_384  # tokens of a long response, log-normal
PROMPT_TOKENS = 128
LONG = {"prompts_per_step": 32, "group_size": 8, "minibatches": 4, "max_response_tokens": LONGEST}
LONG |= {"micro_batch_tokens": 32_768}
AT_MOST = 10.0  # % of the real tokens


def rows(steps: int = 3, prompts: int = LONG["prompts_per_step"]) -> Iterator[Row]:
    """Both kinds of lengths."""
    print(f"padding, {steps} steps of the demo's rollouts ...", flush=True)
    with one_thread():
        batches = of_demo(steps)
    yield from figures("the demo's rollouts", batches)
    print(f"padding, {prompts} groups of log-normal lengths up to {LONGEST:,} ...", flush=True)
    yield from figures(f"log-normal lengths up to {LONGEST:,}", of_long(prompts))


def of_demo(steps: int) -> list[MicroBatch]:
    """The micro-batches of the first steps of `--preset demo`, by its warm-started model."""
    config = resolve({"loss_type": "dapo", "epsilon_high": 0.28}, preset="demo")
    policy, task = initial_policy(config, print_warm_start), CHAIN_SUMS[config.task.task]
    asking = SamplerContext(policy, task, config, Actors(TorchEngine(policy)))
    plans = [plan_minibatches(collect(asking, step).kept, policy, task, config) for step in range(steps)]
    return [batch for minibatches in plans for minibatch in minibatches for batch in minibatch]


def of_long(prompts: int) -> list[MicroBatch]:
    """The micro-batches of a step whose responses have log-normal lengths, planned by tokens."""
    config = resolve(LONG | {"prompts_per_step": prompts})
    drawn = stream("padding benchmark").lognormal(np.log(MEDIAN), SIGMA, (prompts, config.rollout.group_size))
    lengths = drawn.round().clip(1, LONGEST).astype(int).tolist()
    groups = [made_up(number, of_group) for number, of_group in enumerate(lengths)]
    minibatches = plan_minibatches(groups, random_policy(), CHAIN_SUMS[config.task.task], config)
    return [batch for minibatch in minibatches for batch in minibatch]


def made_up(number: int, lengths: Sequence[int]) -> Group:
    """A group of responses of these lengths to a prompt of its own, every other one right."""
    return [
        Response(
            problem=Problem(f"prompt {number}", "0"),
            step=0,
            sample=sample,
            round=0,
            prompt_tokens=[number] * PROMPT_TOKENS,
            tokens=[0] * length,
            text="",
            entropy_sum=0.0,
            sampler_logprobs=[0.0] * length,
            truncated=length == LONGEST,
            grade=Grade("wrong"),
            score=float(sample % 2),
            reward=float(sample % 2),
        )
        for sample, length in enumerate(lengths)
    ]


def figures(words: str, batches: Sequence[MicroBatch]) -> Iterator[Row]:
    """Padding per real token: in attention by blocks of about one length, and in linear layers, which see none."""
    layouts = [batch.tokens.layout for batch in batches]
    whole = np.array([sum(map(len, layout.texts)) for layout in layouts])
    padded = np.array([layout.padding for layout in layouts]) * whole
    figure = f"padding of attention per real token, {words}"
    yield Row(figure, 100 * padded.sum() / whole.sum(), "%", at_most=AT_MOST)
    yield Row(f"{figure}, worst micro-batch", 100 * float((padded / whole).max()), "%", at_most=AT_MOST)
    as_rows = np.array([row_padding(layout) for layout in layouts]) * whole
    beside = 100 * as_rows.sum() / whole.sum()
    yield Row(f"{figure}, beside rows as long as the longest", 100 * padded.sum() / whole.sum(), "%", peer=beside)
    seen = sum(len(batch.tokens.tokens) for batch in batches)
    real = sum(len(distinct(layout)) for layout in layouts)
    yield Row(f"padding of linear layers, {words}", 100 * (seen / real - 1), "%", at_most=0.0)
    share = 100 * seen / whole.sum()
    yield Row(f"tokens that linear layers see where a prompt is read once, {words}", share, "% of the texts'")


def row_padding(layout: Packed) -> float:
    """Padding per real token where each text is a row as long as the micro-batch's longest."""
    lengths = [len(text) for text in layout.texts]
    return len(lengths) * max(lengths) / sum(lengths) - 1


def distinct(layout: Packed) -> set[int]:
    """The places that any text shows."""
    return {place for text in layout.texts for place in text.places.tolist()}
