from pathlib import Path

import pytest
import torch
import transformers

from harness.errors import UsageError
from harness.model.policy import Policy, load_policy
from harness.run.tiny_model import fresh_policy
from tests.harness.tiny import save_direct_answers


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
