"""What each loss multiplies A grad log pi with, token by token, and how unequal those weights are."""

from dataclasses import replace

import pytest
import torch

from harness.algorithm.gradient_weights import METRICS, WeightSpread, gradient_weights
from losses import DAPO, FIPO, LOSSES, Loss, LossBatch

RATIO = torch.tensor([[1.0, 1.1, 1.5, 0.5], [0.5, 0.9, 20.0, 1.0]], dtype=torch.float64)
MASK = torch.tensor([[True] * 4, [True, True, True, False]])
ADVANTAGES = torch.tensor([[1.0, 2.0, 0.5, 0.0], [-1.0, -2.0, -0.5, -1.0]], dtype=torch.float64)


def batch() -> LossBatch:
    old = torch.full_like(RATIO, -1.0)
    return LossBatch(RATIO.log() - 1, old, ADVANTAGES, MASK, old - 0.3)


def weights(loss: Loss) -> torch.Tensor:
    return gradient_weights(loss, batch())


def test_of_dapo_they_are_ratios_that_no_clip_stopped_whatever_the_kl() -> None:
    expected = [[1.0, 1.1, 0.0, 0.0], [0.0, 0.9, 0.0, 0.0]]  # above 1.28, A = 0; below 0.8, above delta, masked
    for beta in (0.0, 0.1):
        found = weights(DAPO(epsilon_high=0.28, delta=10.0, beta=beta))
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_of_fipo_they_are_the_influence_weights_times_those_of_dapo() -> None:
    fipo = FIPO(epsilon_high=0.28, delta=10.0, clip_range=0.5, clip_high_only=False, decay_rate=2.0)
    influence = fipo(batch()).diagnostics["influence_weight"]
    torch.testing.assert_close(weights(fipo), influence * weights(DAPO(epsilon_high=0.28, delta=10.0)))


def test_of_reinforce_they_are_one_and_of_gspo_the_ratio_of_the_response() -> None:
    given = MASK & (ADVANTAGES != 0)
    assert weights(LOSSES["reinforce"]()).equal(given.double())
    wide = LOSSES["gspo"](epsilon_low=0.99, epsilon_high=10.0)  # type: ignore[call-arg]
    means = torch.stack([row[mask].log().mean().exp() for row, mask in zip(RATIO, MASK, strict=True)])
    found = gradient_weights(wide, replace(batch(), advantages=torch.ones_like(RATIO)))
    torch.testing.assert_close(found, torch.where(MASK, means[:, None], 0.0))


@pytest.mark.parametrize(
    "values", [torch.linspace(0.99, 1.01, 300), torch.arange(300) % 4, torch.exp(torch.arange(300) % 37 - 18.0)]
)
def test_gini_and_effective_share_over_all_parts_of_a_step(values: torch.Tensor) -> None:
    spread = WeightSpread()
    for part in values.double().split(70):
        spread.add(part)
    found, size = spread.metrics(), values.double()
    differences = (size[:, None] - size[None, :]).abs().mean()
    assert found["weights/gini"] == pytest.approx(float(differences / (2 * size.mean())), rel=0.01)
    assert found["weights/effective_share"] == pytest.approx(float(size.sum() ** 2 / (300 * (size**2).sum())))
    assert found["weights/zero_share"] == pytest.approx(float((size == 0).double().mean()))
    assert found["weights/moved_share"] == pytest.approx(float(((size - 1).abs() > 1e-3).double().mean()))


def test_ends_of_the_scale() -> None:
    assert WeightSpread().metrics() == dict.fromkeys(METRICS)
    alike, one, none = WeightSpread(), WeightSpread(), WeightSpread()
    alike.add(torch.full((50,), 0.7))
    one.add(torch.tensor([*[0.0] * 49, 3.0]))
    none.add(torch.zeros(50))
    assert [alike.metrics()[name] for name in METRICS] == pytest.approx([0.0, 1.0, 0.0, 1.0])
    assert [one.metrics()[name] for name in METRICS] == pytest.approx([0.98, 0.02, 0.98, 1.0])
    assert [none.metrics()[name] for name in METRICS] == [None, 0.0, 1.0, 1.0]
