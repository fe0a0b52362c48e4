"""Adapters: what they train, what they leave alone, and what comes out as a plain model."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.loop import train
from harness.model.lora import exported, with_adapters
from harness.model.packing import pack_batch
from harness.model.policy import Policy, load_policy
from harness.resume import resume
from harness.run.environment import model_sha256
from harness.run.record import RunFolder
from tests.harness import runs
from tests.harness.backends.pairings import stop_after
from tests.harness.tiny import small_config

LORA = {"loss_type": "dapo", "lora_rank": 4, "steps": 4, "checkpoint_every": 2, "temperature": 1.5}


def adapted(policy: Policy, seed: int = 0) -> Policy:
    return with_adapters(policy.copy(), small_config(lora_rank=4, model_seed=seed).model)


def final(run: Path) -> bytes:
    return (run / "checkpoints" / "final" / "model.safetensors").read_bytes()


def logprobs(policy: Policy) -> torch.Tensor:
    batch = pack_batch([policy.encode("a2b4c3:")], [policy.encode("a2b4=1c3=4#4$")], policy.device)
    return policy.logprobs(batch, 1.0)[0]


def test_it_begins_as_the_model_itself_and_trains_adapters_alone(direct_policy: Policy) -> None:
    policy = adapted(direct_policy)
    trained = {name for name, parameter in policy.model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(".lora_A." in name or ".lora_B." in name for name in trained)
    assert torch.equal(logprobs(policy), logprobs(direct_policy))
    plain = dict(direct_policy.model.named_parameters())
    found = dict(exported(policy.model))
    assert found.keys() == plain.keys()
    assert all(torch.equal(found[name], plain[name]) for name in plain)


def test_its_first_factor_is_drawn_by_the_model_seed_and_what_a_run_keeps_is_a_plain_model(
    direct_policy: Policy, tmp_path: Path
) -> None:
    config = small_config(lora_rank=4)
    folder = RunFolder.create(tmp_path / "run", config, {}, adapted(direct_policy))
    again = with_adapters(load_policy(str(folder.path / "checkpoints" / "initial")), config.model)
    assert model_sha256(again) == model_sha256(adapted(direct_policy)) != model_sha256(adapted(direct_policy, 1))


@pytest.mark.train
def test_a_trained_run_leaves_a_plain_model_and_resumes_bit_identically(model_folder: str, tmp_path: Path) -> None:
    config = small_config(model_folder, **LORA)
    train(config, tmp_path / "whole", runs.ignore)
    with pytest.raises(Exception, match="stopped after 3 steps"):
        train(config, tmp_path / "stopped", stop_after(3))
    resume(tmp_path / "stopped", runs.ignore)
    assert final(tmp_path / "whole") == final(tmp_path / "stopped")
    checkpoint = tmp_path / "whole" / "checkpoints" / "step_000002"
    assert not (checkpoint / "model.safetensors").exists()
    assert all(".lora_" in name for name in load_file(checkpoint / "trained.safetensors"))
    begun, ended = (load_policy(folder) for folder in (model_folder, str(tmp_path / "whole" / "checkpoints" / "final")))
    changed = {
        name
        for (name, before), after in zip(begun.model.named_parameters(), ended.model.parameters(), strict=True)
        if not torch.equal(before, after)
    }
    assert changed
    assert all("_proj.weight" in name for name in changed)  # no bias, norm or embedding
    recorded = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert recorded[-1]["sampler/logprob_gap_max"] < 1e-5
