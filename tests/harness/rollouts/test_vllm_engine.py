"""What of the vLLM engine needs no vLLM: what it is given and asked. tests/vllm has the rest."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.model.policy import Policy, load_policy
from harness.rollouts.vllm_engine import VllmEngine, folder_without_weights, sizes_to_split
from harness.run.initial_model import initial_policy
from tests.harness.tiny import small_config


@dataclass
class Recorder:
    """In place of vLLM's LLM: what it was asked, in order."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **_named: self.calls.append((name, *given))


def test_on_a_gpu_weights_arrive_before_there_is_a_cache_again(random_policy: Policy) -> None:
    engine = VllmEngine(Recorder(), [0], is_gpu=True)
    for _ in range(2):
        engine.sleep()
        engine.sleep()  # asleep already
        engine.load_weights(random_policy.model.named_parameters())
    engine.load_weights(random_policy.model.named_parameters())  # awake
    names = [tuple(map(str, call)) for call in engine.llm.calls]
    load = ("collective_rpc", "reload_weights")
    cycle = [("sleep",), ("wake_up", "['weights']"), load, ("wake_up", "['kv_cache']"), ("reset_prefix_cache",)]
    assert names == [*cycle, *cycle, load, ("reset_prefix_cache",)]


def test_the_trainers_process_group_outlives_the_engine() -> None:
    shared, own = (VllmEngine(Recorder(), [0], is_gpu=False, owns_process_group=value) for value in (False, True))
    shared.close()
    assert shared.llm.calls == []
    own.llm = type("", (), {"llm_engine": type("", (), {"engine_core": own.llm})})
    own.close()
    assert own.llm.llm_engine.engine_core.calls == [("shutdown",)]


def test_a_model_is_always_at_one_place_without_its_weights(
    model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIPO_HARNESS_CACHE", str(tmp_path / "cache"))
    folder = folder_without_weights(load_policy(model_folder))
    assert folder == folder_without_weights(load_policy(model_folder))
    assert folder != folder_without_weights(load_policy(model_folder, context_tokens=128))
    names = {path.name for path in folder.iterdir()}
    assert names | {"model.safetensors"} == {path.name for path in Path(model_folder).iterdir()}
    (tmp_path / "file").touch()
    monkeypatch.setenv("FIPO_HARNESS_CACHE", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="FIPO_HARNESS_CACHE: expected a folder that can be written, got"):
        folder_without_weights(load_policy(model_folder))


@pytest.mark.parametrize("parts", [1, 2, 4, 3, 8])
def test_a_model_is_split_where_its_heads_and_columns_divide(parts: int, model_folder: str) -> None:
    config = small_config(model_folder, engine="vllm", backend="deepspeed", nproc=24, rollout_tp=parts)
    if parts in (1, 2, 4):  # by 4, each key head is there twice
        assert sizes_to_split(initial_policy(config).model.config) == (4, 2, 192)
        return
    with pytest.raises(UsageError, match=rf"--rollout_tp {parts}: expected a divisor of the model's 4 attention heads"):
        initial_policy(config)
