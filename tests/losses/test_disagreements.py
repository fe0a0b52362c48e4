"""Where the implementations disagree: each known reason, shown on the vectors that have it and as large as it is."""

import pytest
from torch import Tensor

from losses import DAPO, FIPO, token_weights
from tests.losses import authors, golden, page
from tests.losses.agreement import agree, bitwise_equal


def arrays(lines: list[str]) -> set[str]:
    """The names of the arrays that differ."""
    return {line.split(":")[0] for line in lines}


def log_ratio(vector: golden.Vector) -> Tensor:
    return vector["in__logps"] - vector["in__old_logps"]


def loss_and_gradient(vector: golden.Vector, loss: DAPO, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Ours for a vector: the scalar under the weights, and its gradient."""
    batch = golden.batch(vector)
    return tuple(golden.averaged("ours", loss(batch).token_loss, weights, batch).values())


# 1. the authors, TRL's pull request and slime cut the log-ratio at +-20; ms-swift and TRL 1.16 do not


BEYOND_CLAMP = ["case_09", "case_20", "case_42"]


@pytest.mark.parametrize("name", ["case_09", "case_20"])
def test_log_ratio_clamp_separates_authors_from_page(name: str) -> None:
    vector = golden.load(name)
    without = arrays(golden.differing(authors.fipo_numbers(vector, log_ratio_clamp=None), vector))
    assert "official_fipo__token_mean__exp_future_kl" in without
    with_clamp = arrays(golden.differing(page.fipo_numbers(vector, log_ratio_clamp=20.0), vector))
    assert {"swift_fipo__agg_fipo__future_kl", "ref__future_kl"} <= with_clamp


def test_log_ratio_clamp_is_idle_where_filter_and_clips_stop_the_same_tokens() -> None:
    # here only ratios above delta are beyond the clamp: out of the Future-KL, and clipped whatever the advantage
    vector = golden.load("case_42")
    beyond = vector["in__mask"] & (log_ratio(vector).abs() > authors.SETTINGS["log_ratio_clamp"])
    assert beyond.any()
    assert (log_ratio(vector)[beyond] > 0).all()
    assert golden.differing(authors.fipo_numbers(vector, log_ratio_clamp=None), vector) == []


@pytest.mark.parametrize("name", BEYOND_CLAMP)
def test_authors_have_no_gradient_beyond_the_clamp(name: str) -> None:
    vector = golden.load(name)
    assert vector["cfg__kind"] == "beyond_clamp"
    beyond = vector["in__mask"] & (log_ratio(vector).abs() > authors.SETTINGS["log_ratio_clamp"])
    assert beyond.any()
    assert not vector["official_vanilla__token_mean__grad"][beyond].any()


def test_page_has_gradients_beyond_the_clamp() -> None:
    # without a dual clip nothing stops a large ratio of a negative advantage
    vector = golden.load("case_09")
    beyond = vector["in__mask"] & (vector["in__advantages_tok"] < 0) & (log_ratio(vector) > 20)
    assert beyond.any()
    assert vector["swift_dapo__grad"][beyond].all()
    assert not authors.dapo_numbers(vector)["official_vanilla__token_mean__grad"][beyond].any()
    assert page.dapo_numbers(vector)["swift_dapo__grad"][beyond].all()


# 2. without a clip range the authors and TRL's pull request bound the weights at 10, ms-swift does not


def test_weight_bound_separates_authors_from_page() -> None:
    vector = golden.load("edge_clip_zero_official_max10")
    assert vector["official_fipo__token_mean__influence"].max() == 10
    assert vector["swift_fipo__agg_fipo__influence"].max() > 10
    without = arrays(golden.differing(authors.fipo_numbers(vector, weight_bound=None), vector))
    assert {"official_fipo__token_mean__influence", "trlpr_fipo__local_token_mean__influence"} <= without
    bounded = arrays(golden.differing(page.fipo_numbers(vector, weight_bound=10.0), vector))
    assert {"swift_fipo__agg_fipo__influence", "swift_fipo__agg_fipo__scalar"} <= bounded


def test_weight_bound_is_idle_where_there_is_a_clip_range() -> None:
    for name in golden.LOSS_VECTORS:
        vector = golden.load(name)
        if golden.setting(vector, "clip_range") is not None:
            assert golden.differing(authors.fipo_numbers(vector, weight_bound=None), vector) == []


# 3. the authors and TRL's pull request drop responses with two dual-clipped tokens; ms-swift and slime do not


@pytest.mark.parametrize("name", ["case_20", "case_28", "edge_all_sequences_dropped"])
def test_sequence_filter_separates_authors_from_page_and_slime(name: str) -> None:
    vector = golden.load(name)
    kept, mask = authors.kept_by_filter(vector), vector["in__mask"]
    assert (kept.any(dim=1) != mask.any(dim=1)).any()
    unfiltered = arrays(golden.differing(authors.fipo_numbers(vector, kept=mask), vector))
    assert {"official_fipo__token_mean__scalar", "trlpr_fipo__local_token_mean__scalar"} <= unfiltered
    # slime's filter is written but never fires: its numbers are ours without a filter and not with one
    assert "slime_fipo__sample_mean__scalar" in arrays(golden.differing(authors.slime_numbers(vector, kept), vector))


def test_all_responses_dropped_is_0_for_the_authors_alone() -> None:
    vector = golden.load("edge_all_sequences_dropped")
    assert not authors.kept_by_filter(vector).any()
    for name in ("official_fipo__token_mean", "trlpr_fipo__local_token_mean"):
        assert vector[f"{name}__scalar"] == 0
        assert not vector[f"{name}__grad"].any()
    assert vector["swift_fipo__agg_fipo__scalar"] != 0
    assert vector["slime_fipo__sample_mean__scalar"] != 0


# 4. the filter compares the log-ratio with log(delta) or the ratio with delta: one rounding apart at a tie


@pytest.mark.parametrize("name", ["case_10", "case_32", "case_43"])
def test_filter_at_a_tie_separates_authors_from_page(name: str) -> None:
    vector = golden.load(name)
    in_ratio_space = arrays(golden.differing(authors.fipo_numbers(vector, filter_in_log_space=False), vector))
    assert {"official_fipo__token_mean__exp_future_kl"} <= in_ratio_space
    in_log_space = arrays(golden.differing(page.fipo_numbers(vector, filter_in_log_space=True), vector))
    assert {"swift_fipo__agg_fipo__future_kl"} <= in_log_space


def test_the_two_filters_are_the_same_away_from_ties() -> None:
    for name in golden.LOSS_VECTORS:
        vector = golden.load(name)
        if not golden.ties(vector).any():
            assert golden.differing(page.fipo_numbers(vector, filter_in_log_space=True), vector) == []


def test_clip_fraction_at_a_tie_differs_by_one_token() -> None:
    # a ratio above 1 + epsilon by one rounding: ours is clipped, while their rounded products are equal
    vector = golden.load("case_43")
    name = "official_vanilla__token_mean__clipfrac"
    ours, tokens = authors.dapo_numbers(vector)[name], vector["in__mask"].sum()
    assert round(float((ours - vector[name]) * tokens)) == 1


# 5. verl's token mean divides by n + 1e-8


@pytest.mark.parametrize("name", ["case_04", "case_09", "case_27"])
def test_denominator_epsilon_of_the_authors(name: str) -> None:
    vector = golden.load(name)
    numbers = authors.fipo_numbers(vector, denominator_epsilon=0.0)
    assert "official_fipo__token_mean__scalar" in arrays(golden.differing(numbers, vector))
    ours, theirs = (source["official_fipo__token_mean__scalar"] for source in (numbers, vector))
    # the difference itself is known only to the rounding of the two losses that it is taken from
    tokens = int(vector["in__mask"].sum())
    assert round(float((ours / theirs - 1) * tokens / authors.DENOMINATOR_EPSILON), 5) == 1


# Rows without tokens: ours are not counted as responses. The others count them, or divide by 0.

EMPTY_ROW = [name for name in golden.LOSS_VECTORS if not golden.load(name)["in__mask"].any(dim=1).all()]


@pytest.mark.parametrize("name", EMPTY_ROW)
@pytest.mark.parametrize("theirs", ["swift_grpo", "trl116_grpo"])
def test_empty_row_counts_as_a_response_of_loss_0_elsewhere(name: str, theirs: str) -> None:
    vector = golden.load(name)
    mask = vector["in__mask"]
    loss = DAPO(**golden.surrogate_settings(vector))
    scalar, gradient = loss_and_gradient(vector, loss, token_weights(mask, "sequence_mean"))
    share = mask.any(dim=1).double().mean()
    assert share < 1
    assert not agree(scalar, vector[f"{theirs}__scalar"], "float64")
    assert agree(scalar * share, vector[f"{theirs}__scalar"], "float64")
    smooth = ~golden.ties(vector)
    assert agree((gradient * share)[smooth], vector[f"{theirs}__grad"][smooth], "float64")


@pytest.mark.parametrize("name", EMPTY_ROW)
def test_empty_row_counts_in_the_constant_average_elsewhere(name: str) -> None:
    vector = golden.load(name)
    weights = token_weights(vector["in__mask"], "constant", vector["in__mask"].shape[1])
    scalar, _ = loss_and_gradient(vector, DAPO(**golden.surrogate_settings(vector)), weights)
    assert not agree(scalar, vector["swift_dr_grpo__scalar"], "float64")


@pytest.mark.parametrize("name", EMPTY_ROW)
def test_empty_row_counts_as_one_token_in_slime(name: str) -> None:
    vector = golden.load(name)
    loss = FIPO(**golden.fipo_settings(vector) | authors.SETTINGS)
    tokens = vector["in__mask"].sum(dim=1)
    scalar, _ = loss_and_gradient(vector, loss, token_weights(vector["in__mask"], "token_mean"))
    theirs = vector["slime_fipo__token_mean__scalar"]
    assert not agree(scalar, theirs, "float64")
    assert agree(scalar * tokens.sum().double() / tokens.clamp(min=1).sum().double(), theirs, "float64")


# NaN: what other implementations give where a row is empty or padding is -inf, and ours does not

NAN_PADDING = "edge_neginf_padding"


@pytest.mark.parametrize("name", [name for name in golden.LOSS_VECTORS if name != NAN_PADDING])
def test_authors_sequence_mean_is_nan_exactly_where_a_row_is_empty_or_dropped(name: str) -> None:
    vector = golden.load(name)
    nan = {array for array, values in golden.recorded(vector).items() if values.isnan().any()}
    masks = {"official_fipo": authors.kept_by_filter(vector), "official_vanilla": vector["in__mask"]}
    emptied = {source for source, mask in masks.items() if not mask.any(dim=1).all()}
    assert nan == {f"{source}__seq_mean_token_mean__{array}" for source in emptied for array in ("scalar", "grad")}
    ours = authors.fipo_numbers(vector) | authors.dapo_numbers(vector)
    assert all(values.isfinite().all() for values in ours.values())


def test_nan_padding_makes_nan_of_every_other_loss() -> None:
    vector = golden.load(NAN_PADDING)
    assert log_ratio(vector).isnan().any()
    assert bitwise_equal(log_ratio(vector).isnan(), ~vector["in__mask"])
    scalars = {name for name in golden.recorded(vector) if name.endswith("__scalar")}
    # verl's masked sum skips what stands at masked positions, its mean per row does not
    assert {name for name in scalars if not vector[name].isnan()} == {"official_vanilla__token_mean__scalar"}


def test_nan_padding_spoils_the_authors_future_kl_and_not_the_pages() -> None:
    vector = golden.load(NAN_PADDING)
    mask = vector["in__mask"]
    assert vector["official_fipo__token_mean__influence"][mask].isnan().all()
    assert vector["trlpr_fipo__local_token_mean__influence"][mask].isnan().all()
    assert vector["swift_fipo__agg_fipo__influence"][mask].isfinite().all()


@pytest.mark.parametrize("of", ["page", "authors"])
def test_nan_padding_leaves_ours_as_with_plain_padding(of: str) -> None:
    vector = golden.load(NAN_PADDING)
    mask = vector["in__mask"]
    plain = vector | {name: vector[name].masked_fill(~mask, -1.0) for name in ("in__logps", "in__old_logps")}
    source = {"page": page, "authors": authors}[of]
    for numbers in (source.fipo_numbers, source.dapo_numbers):
        ours, expected = numbers(vector), numbers(plain)
        for name in set(ours) - {"swift_fipo__agg_fipo__safety_mask"}:
            assert bitwise_equal(ours[name], expected[name]), name


# Where all agree, and what no vector can show


def test_equal_rewards_are_0_for_everyone() -> None:
    vector = golden.load("edge_all_equal_rewards_zero_adv")
    for name, values in golden.recorded(vector).items():
        if name.endswith(("__scalar", "__grad", "__loss_mat")):
            assert not values.any(), name
    for numbers in (page.fipo_numbers, page.dapo_numbers, authors.fipo_numbers, authors.dapo_numbers):
        ours = {name: values for name, values in numbers(vector).items() if name.endswith(("__scalar", "__grad"))}
        assert not any(values.any() for values in ours.values())
