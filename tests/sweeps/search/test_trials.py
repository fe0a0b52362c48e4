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
