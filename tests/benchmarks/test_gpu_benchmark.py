"""The GPU's benchmark on a CPU, with a model small enough: every figure is there, and both ways to score agree."""

import tomllib

import pytest
import torch

from benchmarks import gpu
from harness.plan.shapes import SHAPES

SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "vocab_size": 500,
}


@pytest.mark.parametrize("name", gpu.MODELS)
def test_its_figures_are_of_the_shapes_that_it_names(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = tomllib.loads(SHAPES.read_text(encoding="utf-8"))[name] | SMALL
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    policy = gpu.random_policy(shape, "cpu")
    batch = gpu.random_batch(policy, 2, 40)
    assert len(batch.tokens) == 2 * (gpu.PROMPT + 40)
    rate = gpu.matrix_multiply_rate("cpu", 64)
    rows = [*gpu.update(name, policy, batch, rate), *gpu.sampling(name, policy, 40, rate)]
    assert [row.value > 0 for row in rows] == [True] * 4
    assert [row.floor for row in rows] == [None, rate / 1e12] * 2


def test_without_the_chunks_the_gradient_is_the_same() -> None:
    shape = tomllib.loads(SHAPES.read_text(encoding="utf-8"))[gpu.MODELS[0]] | SMALL
    policy = gpu.random_policy(shape, "cpu")
    policy.model.float()
    batch = gpu.random_batch(policy, 2, 40)
    gradients = []
    for run in (gpu.forward_and_backward, gpu.with_whole_logits):
        run(policy, batch)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in policy.model.parameters()]))
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-4)


def test_a_cpu_has_none_of_them() -> None:
    assert list(gpu.rows("cpu")) == []
