"""Packed texts and a growing cache against transformers' own attention, for the architectures that users bring."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from harness.errors import UsageError
from harness.model.attention import NAME
from harness.model.packing import PADDING, Packed, Text, pack_batch
from harness.model.policy import Policy, load_policy, write_policy
from harness.rollouts.decoding import FIRST_COLUMNS, Decoding, read_prompts
from harness.rollouts.sampler import Sampling, sample
from harness.run.tiny_model import character_tokenizer
from tests.harness.agreement import agree
from tests.harness.rollouts.test_sampler import plainly_sampled

SHAPE = {"vocab_size": 30, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
SHAPE |= {"max_position_embeddings": 256, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
KINDS = {
    "qwen2": transformers.Qwen2Config(**SHAPE, num_key_value_heads=2),
    "qwen3": transformers.Qwen3Config(**SHAPE, num_key_value_heads=1, head_dim=16),
    "llama": transformers.LlamaConfig(**SHAPE, num_key_value_heads=4),
    "llama, window unused": transformers.LlamaConfig(**SHAPE, num_key_value_heads=4, sliding_window=7),
    "mistral": transformers.MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=7),
}


@pytest.fixture(scope="module", params=KINDS)
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """Random weights, large enough that every token before counts, through a folder as a user's would come."""
    config = KINDS[request.param]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=0.3)
    folder = tmp_path_factory.mktemp(request.param)
    write_policy(folder, Policy(model.eval(), character_tokenizer(), frozenset({1})))
    return load_policy(str(folder))


def texts(lengths: list[tuple[int, int]]) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and responses of these lengths; prompts of one length are the same prompt."""
    generator = np.random.default_rng(0)
    prompts = {length: generator.integers(2, 30, length).tolist() for length, _ in lengths}
    return [prompts[length] for length, _ in lengths], [generator.integers(2, 30, n).tolist() for _, n in lengths]


LENGTHS = [(9, 3), (4, 25), (9, 1), (12, 25), (9, 14), (4, 24), (1, 2), (12, 5)]


def test_packed_logprobs_and_gradients_are_those_of_each_text_alone(policy: Policy) -> None:
    prompts, responses = texts(LENGTHS)
    batch = pack_batch(prompts, responses, policy.device)
    weights = torch.rand(batch.drawn.shape, generator=torch.Generator().manual_seed(0))
    policy.model.zero_grad()
    packed, _ = policy.logprobs(batch, 1.0)
    (packed * weights).sum().backward()
    gradients = [parameter.grad for parameter in policy.model.parameters()]
    policy.model.zero_grad()
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        logits = policy.model(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        plain = torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(response)[:, None]).squeeze(1)
        assert agree(packed[row, : len(response)].detach(), plain.detach(), "network")
        assert not packed[row, len(response) :].any()
        (plain * weights[row, : len(response)]).sum().backward()
    for mine, parameter in zip(gradients, policy.model.parameters(), strict=True):
        assert agree(mine, parameter.grad, "network")


def test_the_cache_gives_what_reading_the_whole_text_gives(policy: Policy) -> None:
    limit = FIRST_COLUMNS + 30  # so that it grows
    prompts, _ = texts([(9, 1), (4, 1), (17, 1)])
    numbers = np.random.default_rng(1).random((24, limit))
    drawn = sample(policy, prompts, numbers, Sampling(limit))
    assert max(len(one.tokens) for one in drawn) > FIRST_COLUMNS
    assert min(len(one.tokens) for one in drawn) < FIRST_COLUMNS
    for row, one in enumerate(drawn):
        plain = plainly_sampled(policy, prompts[row // 8], numbers[row], Sampling(limit))
        assert one.tokens == plain.tokens
        assert agree(one.logprobs, plain.logprobs, "network")


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
    prompts, responses = texts([(9, 3), (9, 5), (4, 2), (9, 1)])
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


@pytest.mark.filterwarnings("ignore")  # transformers misses kernels of its own
def test_a_model_with_layers_of_another_kind_is_refused(tmp_path: Path) -> None:
    kinds = ["linear_attention", "full_attention"]
    config = transformers.Qwen3NextConfig(
        **SHAPE, num_key_value_heads=2, head_dim=16, layer_types=kinds, num_experts=0, decoder_sparse_step=0
    )
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    write_policy(tmp_path, Policy(model, character_tokenizer(), frozenset({1})))
    with pytest.raises(UsageError, match="linear_attention"):
        load_policy(str(tmp_path))


@torch.inference_mode()
def test_the_short_way_gives_the_bits_of_the_models_own(policy: Policy) -> None:
    decodings = [read_prompts(policy.model, [[2] * 11, [3] * 20], per_prompt=3, limit=12)[0] for _ in range(2)]
    assert (decodings[0].angles is None) == (policy.model.config.model_type == "qwen3")
    decodings[1].angles = None
    for tokens in torch.arange(6 * 12).view(12, 6) % 28 + 2:
        ours, theirs = (decoding.next_states(tokens) for decoding in decodings)
        assert torch.equal(ours, theirs)
