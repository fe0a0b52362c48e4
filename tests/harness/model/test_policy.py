from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.model.policy import Policy, load_policy
from tests.harness.tiny import save_direct_answers


def test_text_ends_in_characters(random_policy: Policy) -> None:
    tokens = random_policy.encode("a4=4#4$")
    assert random_policy.decode(tokens) == "a4=4#4"
    assert random_policy.token_ends(tokens) == [1, 2, 3, 4, 5, 6, 6]


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
