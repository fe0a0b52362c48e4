import dataclasses
from multiprocessing import get_context
from pathlib import Path

import pytest

from harness.config.schema import Config
from harness.model.policy import load_policy
from harness.run.folder import save_folder
from harness.run.tiny_model import (
    RECIPE_VERSION,
    cache_key,
    demonstration_loss,
    demonstrations,
    fresh_policy,
    tiny_model_folder,
    warm_started,
)
from harness.tasks.chain_sum import GRADED, Stage, Style
from harness.tasks.tiny import DEMONSTRATED
from tests.waiting import LONG_S

FORK = get_context("fork")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FIPO_HARNESS_CACHE", str(tmp_path))
    return tmp_path / "tiny"


def test_two_builders_at_once_get_one_whole_model(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage((6, 8), ((1.0, Style()),), steps=2, lr=1e-3)
    monkeypatch.setitem(DEMONSTRATED, "short", dataclasses.replace(GRADED, stages=(stage,)))
    builders = [FORK.Process(target=tiny_model_folder, args=("short", 0, 1)) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(LONG_S)
    assert [builder.exitcode for builder in builders] == [0, 0]
    (folder,) = (path for path in cache.iterdir() if path.suffix != ".lock")
    assert folder == tiny_model_folder("short", 0, 1)
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
    others = [("retry", *base[1:]), (base[0], 1, base[2]), (*base[:2], 2)]
    assert cache_key(*base) == cache_key(*base)
    assert len({cache_key(*key) for key in [base, *others]}) == 4


def test_initial_weights_are_keyed_by_the_model_seed_and_as_many_as_the_documents_name() -> None:
    first, again, other = (fresh_policy(seed).model.state_dict() for seed in (0, 0, 1))
    assert all(first[name].equal(again[name]) for name in first)
    assert not first["model.embed_tokens.weight"].equal(other["model.embed_tokens.weight"])
    assert sum(parameter.numel() for parameter in fresh_policy(0).model.parameters()) == 100_800


# By version: the sum of the first batch's tokens, and the loss on it after three steps of each stage.
RECIPES = {
    1: {
        "graded_chain_sum": (11809, 1.35948),
        "retry": (11140, 1.44595),
    }
}


@pytest.mark.parametrize("name", sorted(DEMONSTRATED))
def test_other_weights_need_another_version(name: str) -> None:
    """Where this fails, raise RECIPE_VERSION and record what the new recipe gives; never the same version twice."""
    stages = tuple(dataclasses.replace(stage, steps=3, until_accuracy=None) for stage in DEMONSTRATED[name].stages)
    policy = warm_started(dataclasses.replace(DEMONSTRATED[name], stages=stages), 0, lambda _done, _total: None)
    batch = demonstrations(policy, DEMONSTRATED[name], stages[0], (0, 0, 0))
    tokens, loss = RECIPES[RECIPE_VERSION][name]
    assert sum(sum(prompt) + sum(response) for prompt, response in batch) == tokens
    assert demonstration_loss(policy, batch).item() == pytest.approx(loss, rel=1e-5)
