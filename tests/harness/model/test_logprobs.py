from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import harness.model.logprobs as chunked
from harness.model.logprobs import split, token_logprobs
from tests.harness.agreement import agree
from tests.harness.pretended_gpu import pretended_gpu

TOKENS, HIDDEN, VOCABULARY = 23, 8, 50


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, output head and tokens."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, HIDDEN, generator=generator).to(dtype).requires_grad_()
    head = torch.randn(VOCABULARY, HIDDEN, generator=generator).to(dtype).requires_grad_()
    return hidden, head, torch.randint(VOCABULARY, (TOKENS,), generator=generator)


def plain(hidden: Tensor, head: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The same from the whole matrix, in float64."""
    logprobs = torch.log_softmax(hidden.double() @ head.double().T / temperature, dim=-1)
    return logprobs.gather(1, tokens[:, None]).squeeze(1), -(logprobs.exp() * logprobs).sum(dim=1)


@pytest.fixture(params=[1, 5, 23, 1000], ids=lambda tokens: f"{tokens} tokens a chunk")
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "CHUNK_BYTES", 4 * VOCABULARY * request.param)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_values_and_gradients_are_those_of_the_whole_matrix(temperature: float) -> None:
    hidden, head, tokens = inputs()
    upstream = torch.linspace(-1.0, 1.0, TOKENS)
    results = []
    for function in (token_logprobs, plain):
        logprobs, entropy = function(hidden, head, tokens, temperature)
        assert not entropy.requires_grad or function is plain
        results.append([logprobs, entropy, *torch.autograd.grad((logprobs * upstream).sum(), (hidden, head))])
    for ours, theirs in zip(*results, strict=True):
        assert agree(ours.detach(), theirs.detach(), "network")


def test_a_bfloat16_model_has_logits_in_float32() -> None:
    hidden, head, tokens = inputs(torch.bfloat16)
    logprobs, entropy = token_logprobs(hidden, head, tokens, 1.0)
    assert logprobs.dtype == entropy.dtype == torch.float32
    for ours, theirs in zip((logprobs, entropy), plain(hidden, head, tokens, 1.0), strict=True):
        assert agree(ours.detach(), theirs.detach(), "network")
    gradients = torch.autograd.grad(logprobs.sum(), (hidden, head))
    assert {gradient.dtype for gradient in gradients} == {torch.bfloat16}


def test_large_logits_do_not_overflow() -> None:
    hidden, head, tokens = inputs()
    with torch.no_grad():
        hidden *= 1e4
    logprobs, entropy = token_logprobs(hidden, head, tokens, 1.0)
    logprobs.sum().backward()
    assert all(values.isfinite().all() for values in (logprobs, entropy, hidden.grad, head.grad))


@pytest.mark.usefixtures("chunk")
def test_probabilities_are_kept_for_backward_where_they_fit_and_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = []
    for room, kept_cells in ((4 * TOKENS * VOCABULARY, TOKENS * VOCABULARY), (4 * TOKENS * VOCABULARY - 1, 0)):
        monkeypatch.setattr(chunked, "KEPT_BYTES", room)
        hidden, head, tokens = inputs()
        kept: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one):  # noqa: B023
            logprobs, _ = token_logprobs(hidden, head, tokens, 0.7)
        assert sum(one.numel() for one in kept) == hidden.numel() + head.numel() + 2 * TOKENS + kept_cells
        gradients.append(torch.autograd.grad(logprobs.sum(), (hidden, head)))
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_autocast_does_not_round_the_logits() -> None:
    hidden, head, tokens = inputs()
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logprobs, entropy = token_logprobs(hidden, head, tokens, 1.0)
            gradients = torch.autograd.grad(logprobs.sum(), (hidden, head))
        results.append([logprobs, entropy, *gradients])
    for plain, cast in zip(*results, strict=True):
        assert torch.equal(plain, cast)


def test_a_frozen_head_has_no_gradient() -> None:
    hidden, head, tokens = inputs()
    frozen = head.detach()
    token_logprobs(hidden, frozen, tokens, 1.0)[0].sum().backward()
    assert frozen.grad is None
    expected = torch.autograd.grad(token_logprobs(hidden, head, tokens, 1.0)[0].sum(), hidden)[0]
    assert torch.equal(hidden.grad, expected)


@pytest.fixture(params=["pretended", "real"])
def tensor_cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A GPU, there or not, that multiplies bfloat16 matrices and sums in float32."""
    if request.param == "real":
        if not torch.cuda.is_available():
            pytest.skip("no GPU here")
        yield
        return
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    with pretended_gpu() as found:
        yield
    assert "mm.dtype" in found.operators


@pytest.mark.usefixtures("tensor_cores")
@pytest.mark.parametrize("kept_bytes", [0, 2**29])
def test_products_in_bfloat16_give_the_gradients_of_those_in_float32(
    kept_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked, "KEPT_BYTES", kept_bytes)
    monkeypatch.setattr(chunked, "GPU_CHUNK_BYTES", 4 * VOCABULARY * 5)
    results = []
    for device in ("cpu", "cuda"):
        hidden, head, tokens = (one.detach().to(device) for one in inputs(torch.bfloat16))
        logprobs, entropy = token_logprobs(hidden.requires_grad_(), head.requires_grad_(), tokens, 0.7)
        upstream = torch.linspace(-1.0, 1.0, TOKENS).to(device)
        gradients = torch.autograd.grad((logprobs * upstream).sum(), (hidden, head))
        results.append([one.detach().cpu().double() for one in (logprobs, entropy, *gradients)])
    for theirs, ours in zip(*results, strict=True):
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm()


def test_two_bfloat16_numbers_are_nearly_a_float32_one() -> None:
    gradient = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    high, low = split(gradient, torch.bfloat16)
    assert high.dtype == low.dtype == torch.bfloat16
    assert ((high.float() + low.float() - gradient).abs() <= gradient.abs() * 2.0**-17).all()
    assert split(gradient, torch.float32) == [gradient]
