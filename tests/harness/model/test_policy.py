from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from harness.errors import UsageError
from harness.model.packing import pack_batch
from harness.model.policy import Policy, load_policy, response_logprobs
from harness.run.tiny_model import fresh_policy
from tests.harness.agreement import agree
from tests.harness.tiny import save_direct_answers

TEXTS = [("a1b2c3d4e0f1:", "a1b2=3#3$"), ("a4:", "#4$"), ("a0b0c0d0e0f0g0h0i0:", "a0b0c0=0d0e0=0f0")]


def encoded(policy: Policy, texts: list[tuple[str, str]] = TEXTS) -> tuple[list[list[int]], list[list[int]]]:
    return [policy.encode(prompt) for prompt, _ in texts], [policy.encode(response) for _, response in texts]


@torch.no_grad()
def plain_logprobs(policy: Policy, prompt: list[int], response: list[int], temperature: float) -> list[float]:
    """From one pass over the whole unpadded text, token by token."""
    logits: Tensor = policy.model(input_ids=torch.tensor([prompt + response])).logits[0].double()
    logprobs = torch.log_softmax(logits / temperature, dim=-1)
    return [float(logprobs[len(prompt) + place - 1, token]) for place, token in enumerate(response)]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@torch.no_grad()
def test_logprobs_are_those_of_a_plain_pass(random_policy: Policy, temperature: float) -> None:
    prompts, responses = encoded(random_policy)
    ours, _ = response_logprobs(random_policy, pack_batch(prompts, responses, random_policy.device), temperature)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        plain = plain_logprobs(random_policy, prompt, response, temperature)
        assert agree(ours[row, : len(response)], plain, "network")


def test_text_ends_in_characters(random_policy: Policy) -> None:
    tokens = random_policy.encode("a4=4#4$")
    assert random_policy.decode(tokens) == "a4=4#4"
    assert random_policy.token_ends(tokens) == [1, 2, 3, 4, 5, 6, 6]


def test_a_saved_policy_is_loaded_as_it_was(model_folder: str, direct_policy: Policy) -> None:
    loaded = load_policy(model_folder)
    ours, theirs = loaded.model.state_dict(), direct_policy.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (loaded.end_ids, loaded.pad_id) == (direct_policy.end_ids, direct_policy.pad_id)
    assert not loaded.model.training


def test_every_end_token_of_the_generation_config_ends_a_response(tmp_path: Path) -> None:
    save_direct_answers(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [1, 5]}', encoding="utf-8")
    assert load_policy(str(tmp_path)).end_ids == {1, 5}


def test_dtype_of_the_weights(model_folder: str) -> None:
    assert {parameter.dtype for parameter in load_policy(model_folder, "bfloat16").model.parameters()} == {
        torch.bfloat16
    }


def test_a_folder_that_is_no_model_or_without_weights_is_one_line(tmp_path: Path) -> None:
    faults: list[dict[str, bytes]] = [{}, {"config.json": b"{"}, {"config.json": b'{"model_type": "no such"}'}]
    faults += [{"model.safetensors": b"no weights"}, {"model.safetensors": b""}]
    for number, files in enumerate(faults):
        folder = tmp_path / str(number)
        folder.mkdir()
        if "model.safetensors" in files:
            save_direct_answers(folder)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        if files == {"model.safetensors": b""}:
            (folder / "model.safetensors").unlink()
        with pytest.raises(UsageError, match=r"^--model: .*") as raised:
            load_policy(str(folder))
        assert str(folder) in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("model", ["./missing", "/no/such/folder", "nothing", "a/b/c"])
def test_a_model_that_is_nowhere_is_one_line(model: str) -> None:
    with pytest.raises(UsageError, match=f"^--model: expected 'tiny'.*got '{model}'$"):
        load_policy(model)


SHAPE = {"vocab_size": 26, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "eos_token_id": 1}
SHAPE |= {"num_attention_heads": 2, "num_key_value_heads": 1}
CHANGED: dict[str, dict[str, float]] = {
    "gemma2": {"head_dim": 8, "final_logit_softcapping": 30.0},  # a cap that small logits do not reach
    "phi": {},  # a bias that is still 0
    "granite": {"logits_scaling": 8.0},
}


@pytest.mark.parametrize("kind", CHANGED)
def test_a_model_that_changes_its_logits_is_refused(kind: str, tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model(kind, **SHAPE | CHANGED[kind])
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    fresh_policy(0).tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"^--model: expected a model whose logits are a linear layer") as raised:
        load_policy(str(tmp_path))
    assert "\n" not in str(raised.value)
