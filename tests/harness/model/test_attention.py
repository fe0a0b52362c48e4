"""How packed texts and the cache are stored; test_architectures.py checks what is computed with them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.model.attention import NAME, Kind
from harness.model.packing import PADDING, Packed, Text, causal, pack_batch
from harness.model.policy import Policy, load_policy, write_policy
from harness.rollouts.decoding import Decoding, read_prompts
from tests.harness.agreement import agree
from tests.harness.model.networks import save_network
from tests.harness.model.test_architectures import EXACT
from tests.harness.plan.live_memory import LiveMemory


@pytest.fixture(scope="module", params=["qwen2", "qwen3", "llama, window unused", "mistral"])
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return load_policy(save_network(tmp_path_factory.mktemp("model"), EXACT[request.param]))


def cache_bytes(decoding: Decoding) -> int:
    return sum(kept.nbytes for kept in (*decoding.keys, *decoding.values))


def test_the_cache_holds_no_more_than_it_says(policy: Policy) -> None:
    config = policy.model.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    decoding, _ = read_prompts(policy.model, [[2] * 24, [3] * 20], per_prompt=3, limit=8)
    assert cache_bytes(decoding) == 6 * (24 + 8) * 2 * 2 * config.num_key_value_heads * size * 4
    kept = decoding.keep(torch.tensor([True, False, False, False, False, True]))
    assert kept.tolist() == [0, 5]
    assert cache_bytes(decoding) == 2 * (24 + 8) * 2 * 2 * config.num_key_value_heads * size * 4


def test_a_prompt_is_read_once_for_all_its_responses(policy: Policy) -> None:
    prompts, responses = [[5] * 9, [5] * 9, [6] * 4, [5] * 9], [[7] * 3, [8] * 5, [9] * 2, [7]]
    batch = pack_batch(prompts, responses, policy.device)
    assert len(batch.tokens) == 9 + 4 + 3 + 5 + 2 + 1
    assert batch.tokens[:13].tolist() == prompts[0] + prompts[2]


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.5])
def test_of_a_blocks_cells_few_are_padding(spread: float) -> None:
    lengths = np.random.default_rng(0).lognormal(5.0, spread, 64).astype(int).clip(1, 16384)
    ends = lengths.cumsum()
    packed = Packed(
        [Text(range(end - n, end), range(0)) for n, end in zip(lengths, ends, strict=True)], torch.device("cpu")
    )
    cells = sum(rows * width for rows, width in packed.shapes)
    assert cells / lengths.sum() - 1 <= PADDING
    assert len(packed.cells) == cells
    assert (packed.cells[packed.seats] == torch.arange(len(packed.seats))).all()


def test_a_saved_model_names_no_attention_of_ours(policy: Policy, tmp_path: Path) -> None:
    assert policy.model.config._attn_implementation == NAME
    write_policy(tmp_path, policy)
    assert NAME not in (tmp_path / "config.json").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["model_type"]


@torch.inference_mode()
def test_the_short_way_gives_the_bits_of_the_models_own(policy: Policy) -> None:
    decodings = [read_prompts(policy.model, [[2] * 11, [3] * 20], per_prompt=3, limit=12)[0] for _ in range(2)]
    assert (decodings[0].angles is None) == (policy.model.config.model_type == "qwen3")
    decodings[1].angles = None
    for tokens in torch.arange(6 * 12).view(12, 6) % 28 + 2:
        ours, theirs = (decoding.next_states(tokens) for decoding in decodings)
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("window", [1, 7, 100, 101, 599])
def test_a_window_is_attended_to_without_a_mask_of_texts_squared(window: int) -> None:
    generator = torch.Generator().manual_seed(0)
    states = tuple(torch.randn(1, heads, 600, 8, generator=generator, dtype=torch.float64) for heads in (2, 1, 1))
    with LiveMemory(states) as live:
        ours = causal(states, Kind(0.3, window))
    back = torch.arange(600)[:, None] - torch.arange(600)
    scores = (0.3 * states[0] @ states[1].transpose(2, 3)).masked_fill((back < 0) | (back >= window), -torch.inf)
    assert agree(ours, scores.softmax(dim=-1) @ states[2], "float64")
    assert live.peak < 600 * 600 or window > 7
