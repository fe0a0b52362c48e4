import pytest

from sweeps.search.spec import Limits
from sweeps.search.trials import acted


def test_the_share_of_tokens_that_a_parameter_acted_on_is_over_all_steps() -> None:
    names = ("loss/clip_fraction_low", "loss/influence_weight_at_high", "loss/influence_weight_at_low")
    lines = [
        {"ledger/trained_tokens": tokens, **dict.fromkeys(names, share)} for tokens, share in ((100, 0.1), (400, 0.5))
    ]
    lines.append({"ledger/trained_tokens": 400, **dict.fromkeys(names)})  # a step that trained on nothing
    expected = (100 * 0.1 + 300 * 0.5) / 400
    assert acted(lines, two_sided=False) == {"epsilon": expected, "fipo_clip_range": expected}
    assert acted(lines, two_sided=True)["fipo_clip_range"] == 2 * expected  # the lower bound is the range's too
    assert acted([{"ledger/trained_tokens": 0, names[0]: None}], two_sided=False) == {}


def test_limits_are_exceeded_above_0() -> None:
    facts = {"response_tokens": 30.0, "truncated_share": 0.25, "start_accuracy": 0.4, "values": [0.5, 0.1]}
    assert Limits(32.0, 0.25, 0.5).excess(facts) == {
        "response_tokens": -2.0,
        "truncated_share": 0.0,
        "collapse": pytest.approx(0.1),  # the worst seed's .1 against half of .4
    }
    assert Limits(None, None, None).excess(facts) == {}
