"""The authors' semantics: what their code, the TRL pull request and slime gave, number for number."""

import pytest

from tests.losses import authors, golden


@pytest.mark.parametrize("name", golden.LOSS_VECTORS)
def test_fipo_is_the_authors(name: str) -> None:
    vector = golden.load(name)
    assert golden.differing(authors.fipo_numbers(vector), vector) == []


@pytest.mark.parametrize("name", golden.LOSS_VECTORS)
def test_dapo_is_the_authors_vanilla(name: str) -> None:
    vector = golden.load(name)
    assert golden.differing(authors.dapo_numbers(vector), vector) == []


@pytest.mark.parametrize("name", golden.LOSS_VECTORS)
def test_fipo_without_sequence_filter_is_slimes(name: str) -> None:
    vector = golden.load(name)
    assert golden.differing(authors.slime_numbers(vector), vector) == []
