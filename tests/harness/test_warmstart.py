import subprocess
import sys
from pathlib import Path

import pytest

from harness.config import Config
from harness.manifest import save_folder
from harness.policy import load_policy
from harness.warmstart import cache_key, fresh_policy, tiny_model_folder

# builds the tiny model of a task that takes two steps, and prints its folder
BUILDER = """
import dataclasses
from harness.chain_sum import DIRECT, GRADED, TASKS, Stage
from harness.torch_setup import set_up_torch
from harness.warmstart import tiny_model_folder
set_up_torch(1)
TASKS["short"] = dataclasses.replace(GRADED, stages=(Stage((6, 8), ((1.0, DIRECT),), steps=2, lr=1e-3),))
print(tiny_model_folder("short", 0, 1))
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FIPO_HARNESS_CACHE", str(tmp_path))
    return tmp_path / "tiny"


@pytest.mark.train
def test_two_builders_at_once_get_one_whole_model(cache: Path) -> None:
    builders = [
        subprocess.Popen([sys.executable, "-c", BUILDER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [builder.communicate() for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0], printed
    (folder,) = {Path(out.strip()) for out, _ in printed}
    assert sorted(path.name for path in cache.iterdir() if path.suffix != ".lock") == [folder.name]
    trained, fresh = load_policy(str(folder)).model.state_dict(), fresh_policy(0).model.state_dict()
    assert trained.keys() == fresh.keys()
    assert any(not trained[name].equal(fresh[name]) for name in fresh)


def test_a_cached_model_is_not_built_again(cache: Path) -> None:
    key = f"graded_chain_sum-{cache_key('graded_chain_sum', 0, 1)}"
    save_folder(cache / key, lambda folder: (folder / "config.json").touch())

    def built(_done: int, _total: int) -> None:
        raise AssertionError("built anew")

    assert tiny_model_folder("graded_chain_sum", 0, 1, built) == cache / key


def test_whatever_determines_the_model_is_in_its_key() -> None:
    config = Config()
    base = (config.task.task, config.model.model_seed, config.run.threads)
    others = [("keyed_chain_sum", *base[1:]), (base[0], 1, base[2]), (*base[:2], 2)]
    assert cache_key(*base) == cache_key(*base)
    assert len({cache_key(*key) for key in [base, *others]}) == 4


def test_initial_weights_are_keyed_by_the_model_seed() -> None:
    first, again, other = (fresh_policy(seed).model.state_dict() for seed in (0, 0, 1))
    assert all(first[name].equal(again[name]) for name in first)
    assert not first["model.embed_tokens.weight"].equal(other["model.embed_tokens.weight"])


def test_the_tiny_model_has_the_size_that_the_documents_name() -> None:
    assert sum(parameter.numel() for parameter in fresh_policy(0).model.parameters()) == 100_800
