"""Where the implementations disagree: each known reason, shown on the vectors that have it and as large as it is.

That the page docs/implementations.md names a reason for every difference is in test_implementations.py.
"""

from types import ModuleType
from typing import Any

import pytest
from torch import Tensor

from losses import DAPO, FIPO, token_weights
from tests.losses.agreement import agree, bitwise_equal
from tests.losses.published import authors, golden, page
from tests.losses.published.comparisons import advantage_numbers


def arrays(ours: golden.Numbers, vector: golden.Vector) -> set[str]:
    """The names of the arrays that differ."""
    return {line.split(":")[0] for line in golden.differing(ours, vector)}


def loss_and_gradient(vector: golden.Vector, loss: DAPO, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Ours for a vector: the scalar under the weights, and its gradient."""
    batch = golden.batch(vector)
    return tuple(golden.averaged("ours", loss(batch).token_loss, weights, batch).values())


# The authors' code, TRL's pull request and slime cut the log-ratio at +-20, filter by log(delta) and bound the weights
# at 10; ms-swift and TRL 1.16 do not. With the other side's setting ours are no longer theirs, on these vectors.
CLAMPED, BOUNDED, TIED = ["case_09", "case_20"], ["edge_clip_zero_official_max10"], ["case_10", "case_32", "case_43"]
SWIFT, THEIRS = "swift_fipo__agg_fipo__", "official_fipo__token_mean__"
SETTINGS: list[tuple[ModuleType, dict[str, Any], list[str], set[str]]] = [
    (authors, {"log_ratio_clamp": None}, CLAMPED, {THEIRS + "exp_future_kl"}),
    (page, {"log_ratio_clamp": 20.0}, CLAMPED, {SWIFT + "future_kl", "ref__future_kl"}),
    (authors, {"weight_bound": None}, BOUNDED, {THEIRS + "influence", "trlpr_fipo__local_token_mean__influence"}),
    (page, {"weight_bound": 10.0}, BOUNDED, {SWIFT + "influence", SWIFT + "scalar"}),
    (authors, {"filter_in_log_space": False}, TIED, {THEIRS + "exp_future_kl"}),
    (page, {"filter_in_log_space": True}, TIED, {SWIFT + "future_kl"}),
]


@pytest.mark.parametrize(("source", "change", "names", "expected"), SETTINGS)
def test_a_setting_separates_authors_from_page(
    source: ModuleType, change: dict[str, Any], names: list[str], expected: set[str]
) -> None:
    for name in names:
        assert expected <= arrays(source.fipo_numbers(golden.load(name), **change), golden.load(name))


def test_settings_are_idle_elsewhere() -> None:
    # here only ratios above delta are beyond the clamp: out of the Future-KL, and clipped whatever the advantage
    assert arrays(authors.fipo_numbers(golden.load("case_42"), log_ratio_clamp=None), golden.load("case_42")) == set()
    for vector in map(golden.load, golden.LOSS_VECTORS):
        if golden.setting(vector, "clip_range") is not None:
            assert arrays(authors.fipo_numbers(vector, weight_bound=None), vector) == set()
        if not golden.ties(vector).any():
            assert arrays(page.fipo_numbers(vector, filter_in_log_space=True), vector) == set()


@pytest.mark.parametrize("name", ["case_20", "case_28", "edge_all_sequences_dropped"])
def test_sequence_filter_separates_authors_from_page_and_slime(name: str) -> None:
    vector = golden.load(name)
    kept, mask = authors.kept_by_filter(vector), vector["in__mask"]
    assert (kept.any(dim=1) != mask.any(dim=1)).any()
    unfiltered = arrays(authors.fipo_numbers(vector, kept=mask), vector)
    assert {THEIRS + "scalar", "trlpr_fipo__local_token_mean__scalar"} <= unfiltered
    # slime's filter is written but never fires: its numbers are ours without a filter and not with one
    assert "slime_fipo__sample_mean__scalar" in arrays(authors.slime_numbers(vector, kept), vector)


def test_clip_fraction_at_a_tie_differs_by_one_token() -> None:
    # a ratio above 1 + epsilon by one rounding: ours is clipped, while their rounded products are equal
    vector = golden.load("case_43")
    name = "official_vanilla__token_mean__clipfrac"
    ours, tokens = authors.dapo_numbers(vector)[name], vector["in__mask"].sum()
    assert round(float((ours - vector[name]) * tokens)) == 1


@pytest.mark.parametrize("name", ["case_04", "case_09", "case_27"])
def test_verls_token_mean_divides_by_the_number_of_tokens_and_1e_8(name: str) -> None:
    vector = golden.load(name)
    numbers = authors.fipo_numbers(vector, denominator_epsilon=0.0)
    assert THEIRS + "scalar" in arrays(numbers, vector)
    ours, theirs = (source[THEIRS + "scalar"] for source in (numbers, vector))
    # the difference itself is known only to the rounding of the two losses that it is taken from
    tokens = int(vector["in__mask"].sum())
    assert round(float((ours / theirs - 1) * tokens / authors.DENOMINATOR_EPSILON), 5) == 1


@pytest.mark.parametrize("name", ["adv_00", "adv_07", "adv_09"])
def test_the_two_std_eps_disagree(name: str) -> None:
    vector = golden.load(name)
    swapped = set().union(*(arrays(advantage_numbers(vector, std_eps=eps), vector) for eps in (1e-6, 1e-4)))
    assert swapped == {"official__adv", "swift__adv_group", "swift__adv_batch"}


# Rows without tokens: ours are not counted as responses. The others count them, or divide by 0.
EMPTY_ROW = [name for name in golden.LOSS_VECTORS if not golden.load(name)["in__mask"].any(dim=1).all()]


@pytest.mark.parametrize("name", EMPTY_ROW)
def test_empty_row_counts_as_a_response_of_loss_0_elsewhere(name: str) -> None:
    vector = golden.load(name)
    mask, smooth = vector["in__mask"], ~golden.ties(vector)
    loss, share = DAPO(**golden.surrogate_settings(vector)), mask.any(dim=1).double().mean()
    scalar, gradient = loss_and_gradient(vector, loss, token_weights(mask, "sequence_mean"))
    for theirs in ("swift_grpo", "trl116_grpo"):
        assert not agree(scalar, vector[f"{theirs}__scalar"], "float64")
        assert agree(scalar * share, vector[f"{theirs}__scalar"], "float64")
        assert agree((gradient * share)[smooth], vector[f"{theirs}__grad"][smooth], "float64")
    constant, _ = loss_and_gradient(vector, loss, token_weights(mask, "constant", mask.shape[1]))
    assert not agree(constant, vector["swift_dr_grpo__scalar"], "float64")


@pytest.mark.parametrize("name", EMPTY_ROW)
def test_empty_row_counts_as_one_token_in_slime(name: str) -> None:
    vector = golden.load(name)
    loss = FIPO(**golden.fipo_settings(vector) | authors.SETTINGS)
    tokens = vector["in__mask"].sum(dim=1)
    scalar, _ = loss_and_gradient(vector, loss, token_weights(vector["in__mask"], "token_mean"))
    theirs = vector["slime_fipo__token_mean__scalar"]
    assert not agree(scalar, theirs, "float64")
    assert agree(scalar * tokens.sum().double() / tokens.clamp(min=1).sum().double(), theirs, "float64")


# NaN: what others give where a row is empty or padding is -inf, and ours does not. No more than these is left out.
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
    log_ratio = vector["in__logps"] - vector["in__old_logps"]
    assert bitwise_equal(log_ratio.isnan(), ~vector["in__mask"])
    scalars = {name for name in golden.recorded(vector) if name.endswith("__scalar")}
    # verl's masked sum skips what stands at masked positions, its mean per row does not
    assert {name for name in scalars if not vector[name].isnan()} == {"official_vanilla__token_mean__scalar"}
    ours = page.fipo_numbers(vector) | page.dapo_numbers(vector) | authors.fipo_numbers(vector)
    assert all(values.isfinite().all() for name, values in ours.items() if name.endswith(("__scalar", "__grad")))
