"""The published page's semantics: what ms-swift 4.6.0 and TRL 1.16.0 gave, number for number."""

import pytest

from tests.losses import golden, page


@pytest.mark.parametrize("name", golden.LOSS_VECTORS)
def test_fipo_is_the_pages(name: str) -> None:
    vector = golden.load(name)
    assert golden.differing(page.fipo_numbers(vector), vector) == []


@pytest.mark.parametrize("name", golden.LOSS_VECTORS)
def test_dapo_is_the_pages(name: str) -> None:
    vector = golden.load(name)
    assert golden.differing(page.dapo_numbers(vector), vector) == []
