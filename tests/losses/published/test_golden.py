"""Ours are the numbers that the published implementations gave, and no vector and no recorded array goes unused."""

import pytest
import torch

from tests.losses.agreement import agree
from tests.losses.published import golden
from tests.losses.published.comparisons import COMPARISONS

# the harness's tests use these
OF_THE_HARNESS = {"overlong_32b", "official__dapo_group_kept"}


@pytest.mark.parametrize(
    ("comparison", "name"), [(comparison, name) for comparison, (_, names) in COMPARISONS.items() for name in names]
)
def test_ours_are_the_recorded_numbers(comparison: str, name: str) -> None:
    vector = golden.load(name)
    assert golden.differing(COMPARISONS[comparison][0](vector), vector) == []


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_ours_are_finite_also_where_the_recorded_ones_are_not(comparison: str) -> None:
    # an empty row, or padding of -inf, makes NaN of the others' averages
    numbers, names = COMPARISONS[comparison]
    for name in names:
        found = numbers(golden.load(name)).items()
        assert all(values.isfinite().all() for array, values in found if array.endswith(("__scalar", "__grad"))), name


def test_every_file_is_a_vector_of_some_kind() -> None:
    files = {path.stem for path in golden.GOLDEN.glob("*.npz")}
    assert files - OF_THE_HARNESS == set(golden.LOSS_VECTORS + golden.ADVANTAGE_VECTORS)
    assert [len(golden.names(kind)) for kind in ("case", "edge", "adv")] == [22, 7, 5]


@pytest.mark.parametrize("name", golden.LOSS_VECTORS + golden.ADVANTAGE_VECTORS)
def test_every_recorded_array_has_a_number_of_ours(name: str) -> None:
    vector = golden.load(name)
    ours = [numbers(vector).keys() for numbers, names in COMPARISONS.values() if name in names]
    assert golden.recorded(vector).keys() - set().union(*ours) <= OF_THE_HARNESS
    if name in golden.names("case"):
        assert agree(vector["in__logps"] - vector["in__old_logps"], vector["in__log_ratio"], "exact")


def test_ties_are_few_and_only_in_vectors_made_for_them() -> None:
    with_ties = {name for name in golden.LOSS_VECTORS if golden.ties(golden.load(name)).any()}
    assert with_ties == {name for name in golden.LOSS_VECTORS if golden.load(name).get("cfg__kind") == "boundary"}
    assert sum(int(golden.ties(golden.load(name)).sum()) for name in with_ties) == 29


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_a_wrong_sign_is_noticed(comparison: str) -> None:
    numbers, names = COMPARISONS[comparison]
    for vector in map(golden.load, names):
        theirs = golden.compared(numbers(vector), vector).items()
        signed = {array for array, values in theirs if values.dtype != torch.bool and values.any()}
        wrong = {array: -values.double() for array, values in numbers(vector).items() if array in signed}
        assert {line.split(":")[0] for line in golden.differing(wrong, vector)} == signed
