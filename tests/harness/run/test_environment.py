import json

import torch

from harness.model.policy import Policy
from harness.run.environment import environment, model_sha256
from harness.run.tiny_model import fresh_policy
from harness.tasks.chain_sum import GRADED
from tests.harness import contract
from tests.harness.tiny import small_config

HELD_OUT = GRADED.held_out("report", 4)


def test_environment_is_the_contracts(random_policy: Policy) -> None:
    found = environment(random_policy, HELD_OUT, small_config(threads=3))
    assert list(found) == contract.columns("environment.json")
    assert json.loads(json.dumps(found)) == found
    assert found["threads"] == 3
    assert found["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["model_sha256"] == model_sha256(random_policy)


def test_model_hash_changes_with_any_weight() -> None:
    policy = fresh_policy(0)
    hashes = {model_sha256(policy)}
    for parameter in policy.model.parameters():
        with torch.no_grad():
            parameter.view(-1)[-1] += 1e-3
        hashes.add(model_sha256(policy))
    assert len(hashes) == 1 + len(list(policy.model.parameters()))
    assert model_sha256(fresh_policy(0)) == model_sha256(fresh_policy(0)) in hashes
    policy.model.to(torch.bfloat16)
    assert model_sha256(policy) not in hashes
