import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.__main__ import main
from harness.errors import UsageError
from harness.files import sha256_of
from harness.model.policy import Policy, load_policy
from harness.run.checkpoint import save_weights
from harness.run.environment import ROOT, model_sha256
from harness.run.folder import FolderFault, check_manifest
from harness.run.history import read_history
from harness.run.initial_model import recorded_initial_policy
from tests.harness import runs
from tests.harness.command_line import outcome
from tests.harness.tiny import small_config


@pytest.fixture
def model(model_folder: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


@pytest.fixture
def weights(direct_policy: Policy, tmp_path: Path) -> Path:
    """Weights under a manifest."""
    save_weights(tmp_path / "weights", direct_policy)
    check_manifest(tmp_path / "weights")
    return tmp_path / "weights"


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.file),)


def edited(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(runs.read_json(path) | changes), encoding="utf-8")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.bin", "training_args.bin"])
def test_pickled_weights_are_refused_and_beside_safe_ones_not_read(model: Path, name: str, tmp_path: Path) -> None:
    before, state = model_sha256(load_policy(str(model))), load_file(model / "model.safetensors")
    torch.save(state | {"trap": Trap(tmp_path / "trapped")}, model / name)
    assert model_sha256(load_policy(str(model))) == before
    (model / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="could not load") as raised:
        load_policy(str(model))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "trapped").exists()


def test_weights_that_are_missing_are_not_made_up(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError):
        load_policy(str(model))


@pytest.mark.parametrize("model_type", ["qwen2", "own"])
def test_code_that_a_model_brings_is_not_run(
    model: Path, model_type: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = dict.fromkeys(("AutoConfig", "AutoModelForCausalLM"), "own.Anything")
    own |= {"AutoTokenizer": ["own.Anything", None]}
    edited(model / "config.json", auto_map=own, model_type=model_type)
    edited(model / "tokenizer_config.json", auto_map=own)
    code = f"import pathlib\npathlib.Path({str(tmp_path / 'trapped')!r}).touch()\nclass Anything:\n    pass\n"
    (model / "own.py").write_text(code, encoding="utf-8")
    if model_type == "qwen2":
        assert type(load_policy(str(model)).model).__module__.startswith("transformers.")
    else:
        refused = outcome(main, ["train", "--model", model, "--output_dir", "run"], capsys)
        assert (refused.exit_code, refused.printed, len(refused.errors)) == (2, [], 1)
        assert "--model" in refused.errors[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def replace_by_link(folder: Path) -> None:
    """To a file that holds the very same."""
    (folder / "config.json").rename(folder.parent / "config.json")
    (folder / "config.json").symlink_to(folder.parent / "config.json")


def name_in_manifest(folder: Path, name: str) -> None:
    """Of a file outside of the folder."""
    file = folder.parent / "outside"
    file.write_bytes(b"")
    edited(folder / "manifest.json", **{name: sha256_of(file)})


def name_link_to_the_outside(folder: Path) -> None:
    name_in_manifest(folder, "planted")
    (folder / "planted").symlink_to(folder.parent / "outside")


def manifest_of(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "manifest.json").write_bytes(content)


TAMPERS: dict[str, Callable[[Path], object]] = {
    "a file planted": lambda folder: (folder / "planted.py").touch(),
    "a folder planted": lambda folder: (folder / "planted").mkdir(),
    "a link in its place": replace_by_link,
    "removed": lambda folder: (folder / "config.json").unlink(),
    "changed": lambda folder: edited(folder / "config.json", vocab_size=1),
    "named outside": lambda folder: name_in_manifest(folder, "../outside"),
    "named absolute": lambda folder: name_in_manifest(folder, str(folder.parent / "outside")),
    "names itself": lambda folder: edited(folder / "manifest.json", **{"manifest.json": "0" * 64}),
    "names a link to the outside": name_link_to_the_outside,
    "no hash": lambda folder: edited(folder / "manifest.json", **{"config.json": None}),
} | {repr(text): manifest_of(text) for text in (b"", b"{}", b"[]", b"null", b"\xff", b'"model.safetensors"')}


@pytest.mark.parametrize("tamper", TAMPERS)
def test_a_folder_that_is_not_its_manifest_is_refused(weights: Path, tamper: str) -> None:
    TAMPERS[tamper](weights)
    with pytest.raises(FolderFault) as raised:
        check_manifest(weights)
    assert len(str(raised.value).splitlines()) == 1


def test_nothing_here_trusts_what_it_loads() -> None:
    """Beside the imports and calls that pyproject.toml has ruff refuse: no keyword that lets what is read run code."""
    trusting = re.compile(r'(trust_remote_code|allow_pickle)"?\s*[=:](?!\s*False\b)')
    modules = [path for name in ("losses", "harness", "sweeps", "analysis") for path in (ROOT / name).rglob("*.py")]
    assert [path for path in modules if trusting.search(path.read_text(encoding="utf-8"))] == []


COMMITS = "0" * 39 + "a", "0" * 39 + "b"


@pytest.fixture
def hub(direct_policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a download of owner/name left: two commits with other weights, of which main is the first."""
    import huggingface_hub

    repository = tmp_path / "hub" / "models--owner--name"
    for commit, shift in zip(COMMITS, (0.0, 0.5), strict=True):
        policy = direct_policy.copy()
        with torch.no_grad():
            policy.model.model.norm.weight += shift
        policy.model.save_pretrained(repository / "snapshots" / commit)
        policy.tokenizer.save_pretrained(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMITS[0], encoding="ascii")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return repository


@pytest.mark.train
def test_the_commit_of_a_hub_model_is_recorded_and_taken_again_or_as_it_is_asked_for(hub: Path, tmp_path: Path) -> None:
    history = read_history(runs.trained(small_config("owner/name", steps=1), tmp_path / "run").path)
    assert history.environment["model_revision"] == COMMITS[0]
    (hub / "refs" / "main").write_text(COMMITS[1], encoding="ascii")
    assert model_sha256(load_policy("owner/name")) != history.environment["model_sha256"]
    assert model_sha256(recorded_initial_policy(history)) == history.environment["model_sha256"]
    config = small_config("owner/name", steps=1, model_revision=COMMITS[0])
    asked = read_history(runs.trained(config, tmp_path / "asked").path)
    assert asked.environment["model_revision"] == COMMITS[0]
    with pytest.raises(UsageError, match="could not load 'owner/name'"):
        runs.trained(small_config("owner/name", steps=1, model_revision="0" * 40), tmp_path / "missing")
    assert not (tmp_path / "missing").exists()
