import math

import numpy as np
import pytest
import scipy.stats
import torch

from harness.randomness import stream
from harness.rollouts.sampler import Sampling, choose, nucleus
from tests.harness.agreement import agree


def chosen(probabilities: list[float], numbers: list[float], **settings: float) -> list[int]:
    logits = torch.tensor([probabilities] * len(numbers), dtype=torch.float64).log()
    return choose(logits, torch.tensor(numbers, dtype=torch.float64), Sampling(1, **settings))[0].tolist()


def test_token_is_the_inverse_cumulative_distribution() -> None:
    # 0.5, 0.75 and 1 are the upper edges
    numbers = [0.0, 0.4999, 0.5001, 0.7499, 0.7501, 1 - 2**-53]
    assert chosen([0.5, 0.25, 0.25], numbers) == [0, 0, 1, 1, 2, 2]
    assert chosen([0.0, 1.0, 0.0], [0.0, 0.5, 1 - 2**-53]) == [1, 1, 1]
    # a rare token keeps its probability: in float32 the edges 1 - 1e-9 and 1 would be one
    assert chosen([1 - 1e-9, 1e-9], [1 - 2e-9, 1 - 0.5e-9]) == [0, 1]


def test_temperature_divides_the_logits() -> None:
    # odds 1 : 16 become 1 : 4 at temperature 2 and 1 : 256 at 0.5
    assert chosen([1 / 17, 16 / 17], [0.1999, 0.2001], temperature=2.0) == [0, 1]
    assert chosen([1 / 17, 16 / 17], [0.9999 / 257, 1.0001 / 257], temperature=0.5) == [0, 1]


def test_nucleus_by_hand() -> None:
    probabilities = torch.tensor([[0.125, 0.5, 0.375]], dtype=torch.float64)
    kept = {top_p: nucleus(probabilities, top_p)[0].tolist() for top_p in (0.1, 0.5, 0.51, 0.875, 0.9)}
    assert kept == {
        0.1: [0.0, 0.5, 0.0],
        0.5: [0.0, 0.5, 0.0],
        0.51: [0.0, 0.5, 0.375],
        0.875: [0.0, 0.5, 0.375],
        0.9: [0.125, 0.5, 0.375],
    }


def test_nucleus_is_renormalized_when_a_token_is_chosen() -> None:
    # of 0.5 and 0.375 the first has 4 / 7
    assert chosen([0.125, 0.5, 0.375], [0.0, 0.5713, 0.5715, 1 - 2**-53], top_p=0.8) == [1, 1, 2, 2]


@pytest.mark.parametrize("top_p", [1.0, 0.4])
def test_entropy_is_that_of_the_untruncated_distribution(top_p: float) -> None:
    logits = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.5, 0.25, 0.25, 0.0]], dtype=torch.float64).log()
    _, _, entropy = choose(logits, torch.tensor([0.5, 0.5]), Sampling(1, top_p=top_p))
    assert agree(entropy, [math.log(4), 1.5 * math.log(2)], "float64")


def test_frequencies_are_those_of_the_softmax() -> None:
    generator = stream(0, "frequencies")
    logits = torch.from_numpy(generator.normal(size=12))
    drawn, _, _ = choose(logits.expand(20_000, -1), torch.from_numpy(generator.random(20_000)), Sampling(1, 1.3))
    expected = 20_000 * torch.softmax(logits / 1.3, dim=0).numpy()
    assert scipy.stats.chisquare(np.bincount(drawn.numpy(), minlength=12), expected).pvalue > 0.01
