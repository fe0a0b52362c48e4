import math

import numpy as np
import pytest

from harness.run.record import RunFolder
from tests.harness import runs
from tests.harness.agreement import agree

pytestmark = pytest.mark.train
EPOCHS = 2


@pytest.fixture(params=["dapo", "fipo"])
def folder(request: pytest.FixtureRequest, runs_by_loss: dict[str, RunFolder]) -> RunFolder:
    return runs_by_loss[request.param]


def test_ledger_adds_up_to_the_recorded_responses(folder: RunFolder) -> None:
    responses = runs.rows(folder, "rollouts")
    for line in runs.metrics(folder):
        so_far = [row for row in responses if row["step"] <= line["step"]]
        kept = sum(row["response_tokens"] for row in so_far if row["trained"])
        generated = sum(row["response_tokens"] for row in so_far)
        assert line["ledger/responses"] == len(so_far)
        assert line["ledger/prompts"] == len({(row["step"], row["prompt_id"]) for row in so_far})
        assert line["ledger/generated_tokens"] == generated
        assert line["ledger/discarded_tokens"] == generated - kept > 0
        assert line["ledger/trained_tokens"] == kept * EPOCHS
        groups = [len({row["prompt_id"] for row in so_far if row["trained"] and row["step"] == s}) for s in range(2)]
        assert line["ledger/updates"] == sum(min(count, 2) * EPOCHS for count in groups)  # 2 minibatches, if groups do


def test_rollout_metrics_are_those_of_the_first_round(folder: RunFolder) -> None:
    responses = runs.rows(folder, "rollouts")
    for line in runs.metrics(folder):
        first = [row for row in responses if row["step"] == line["step"] and row["round"] == 0]
        tokens = [row["response_tokens"] for row in first]
        scores: dict[str, set[bool]] = {}
        for row in first:
            scores.setdefault(row["prompt_id"], set()).add(row["correct"])
        expected = {
            "rollout/accuracy": np.mean([row["correct"] for row in first]),
            "rollout/reward_mean": np.mean([row["reward"] for row in first]),
            "rollout/response_tokens_min": min(tokens),
            "rollout/response_tokens_median": np.median(tokens),
            "rollout/response_tokens_max": max(tokens),
            "rollout/response_tokens_mean": np.mean(tokens),
            "rollout/truncated_share": np.mean([row["truncated"] for row in first]),
            "rollout/informative_groups_share": np.mean([len(group) == 2 for group in scores.values()]),
        }
        assert agree([line[name] for name in expected], list(expected.values()), "float64")
        assert 0 < line["rollout/entropy"] < math.log(26)


def test_rounds_and_unfilled_groups_are_counted(folder: RunFolder) -> None:
    responses = runs.rows(folder, "rollouts")
    for line in runs.metrics(folder):
        rows = [row for row in responses if row["step"] == line["step"]]
        trained = {row["prompt_id"] for row in rows if row["trained"]}
        assert line["rollout/sampling_rounds"] == 1 + max(row["round"] for row in rows)
        assert line["rollout/unfilled_groups"] == 4 - len(trained)


def test_advantages_are_recorded_where_trained_and_cancel_within_a_group(folder: RunFolder) -> None:
    groups: dict[tuple[int, str], list[float]] = {}
    for row in runs.rows(folder, "rollouts"):
        assert (row["advantage"] is not None) == row["trained"]
        if row["trained"]:
            groups.setdefault((row["step"], row["prompt_id"]), []).append(row["advantage"])
    assert groups
    for advantages in groups.values():
        assert len(advantages) == 4
        assert abs(sum(advantages)) < 1e-9 < max(advantages)


def test_length_weighted_advantage(folder: RunFolder) -> None:
    responses = runs.rows(folder, "rollouts")
    for line in runs.metrics(folder):
        rows = [row for row in responses if row["step"] == line["step"] and row["trained"]]
        total = sum(row["advantage"] * row["response_tokens"] for row in rows)
        tokens = sum(row["response_tokens"] for row in rows)
        # the sum may cancel: compare on the scale of its terms
        assert agree([line["rollout/length_weighted_advantage"], 1.0], [total / tokens, 1.0], "network")


def test_influence_weights_are_recorded_for_fipo_alone(folder: RunFolder) -> None:
    fipo = folder.path.name == "fipo"
    rows = runs.rows(folder, "rollouts")
    assert {row["influence_weight"] is not None for row in rows if row["trained"]} == {fipo}
    assert {row["influence_weight"] for row in rows if not row["trained"]} == {None}
    for token in runs.rows(folder, "tokens"):
        assert (token["future_kl"] is not None) == (token["influence_weight"] is not None) == fipo
    if fipo:
        weights = [row["influence_weight"] for row in rows if row["trained"]]
        # 1.2 in float32; a negative token whose ratio exceeds the safety threshold may come down to 0.8
        assert 0.8 <= min(weights) < max(weights) <= np.float32(1.2)


def test_token_rows_are_whole_responses(folder: RunFolder) -> None:
    responses = {(row["step"], row["prompt_id"], row["sample"]): row for row in runs.rows(folder, "rollouts")}
    found: dict[tuple[int, str, int], list[int]] = {}
    for token in runs.rows(folder, "tokens"):
        key = (token["step"], token["prompt_id"], token["sample"])
        assert token["position"] == len(found.setdefault(key, []))
        found[key].append(token["token"])
    assert found
    for key, tokens in found.items():
        assert responses[key]["tokens"] == tokens
        assert responses[key]["trained"]
