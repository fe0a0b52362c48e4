from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import models
from harness.errors import Stopped
from harness.model.linear import OneDnnLinear, product, use_onednn
from harness.model.policy import Policy, write_policy
from harness.resume import resume
from tests.harness import runs
from tests.harness.agreement import agree
from tests.harness.backends.pairings import stop_after
from tests.harness.tiny import small_config

HAS_BOTH = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
pytestmark = pytest.mark.skipif(not HAS_BOTH, reason="torch has no MKL or no oneDNN here")
SHAPES = [(128, 160), (576, 192)]  # of a layer's inputs and outputs


def layer(inputs: int, outputs: int, bias: bool = True) -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(inputs, outputs, bias)


def passed(module: torch.nn.Module, rows: Tensor) -> list[Tensor]:
    """The output, and the gradients of the rows and of the parameters under the sum of its squares."""
    rows = rows.clone().requires_grad_()
    out = module(rows)
    return [out, *torch.autograd.grad(out.square().sum(), (rows, *module.parameters()))]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(1,), (7,), (2, 5), (1, 300)])
def test_outputs_and_gradients_are_those_of_torch(shape: tuple[int, int], bias: bool, sizes: tuple[int, ...]) -> None:
    plain, rows = layer(*shape, bias), torch.randn(*sizes, shape[0])
    expected = passed(plain.double(), rows.double())
    module = layer(*shape, bias)
    use_onednn(module)
    assert type(module) is OneDnnLinear
    for found, right in zip(passed(module, rows), expected, strict=True):
        assert agree(found.detach(), right.detach(), "network")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_rows_product_is_the_same_bits_in_batches_of_2_or_more(shape: tuple[int, int]) -> None:
    weight, rows = layer(*shape).weight.detach(), torch.randn(2000, shape[0])
    whole = product(rows, weight)
    for size in (2, 3, 8, 31, 64, 500):
        assert torch.equal(product(rows[9 : 9 + size], weight), whole[9 : 9 + size])


def test_small_weights_and_other_dtypes_stay_torchs_and_parameters_keep_their_names(random_policy: Policy) -> None:
    small, half = layer(64, 128), layer(576, 192).bfloat16()
    model = torch.nn.ModuleList([small, half, layer(576, 192), torch.nn.LayerNorm(576)])
    names = list(model.state_dict())
    use_onednn(model)
    assert [type(one) is OneDnnLinear for one in model] == [False, False, True, False]
    assert list(model.state_dict()) == names
    rows = torch.randn(3, 576).bfloat16()
    assert torch.equal(model[2].bfloat16()(rows), torch.nn.functional.linear(rows, model[2].weight, model[2].bias))
    assert not any(isinstance(one, OneDnnLinear) for one in random_policy.model.modules())


@pytest.mark.train
def test_a_model_of_a_million_weights_stopped_and_resumed_is_that_which_was_not(tmp_path: Path) -> None:
    """Its linear layers are oneDNN's, and AdamW takes one pass over its weights."""
    (tmp_path / "model").mkdir()
    write_policy(tmp_path / "model", models.random_policy(models.LARGER))
    flags = {"task": "graded_chain_sum", "control": "random_reward", "max_response_tokens": 12, "checkpoint_every": 1}
    config = small_config(str(tmp_path / "model"), steps=3, **flags)
    whole = runs.trained(config, tmp_path / "whole")
    with pytest.raises(Stopped):
        runs.train(config, tmp_path / "run", stop_after(2))
    resumed = resume(tmp_path / "run", runs.ignore)
    assert runs.timeless(resumed) == runs.timeless(whole)
    assert runs.weights(resumed) == runs.weights(whole)
