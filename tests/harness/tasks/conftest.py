from collections.abc import Iterator
from contextlib import closing

import pytest

from harness.tasks.math.checker import MathChecker


@pytest.fixture(scope="session")
def checker() -> Iterator[MathChecker]:
    with closing(MathChecker()) as checker:
        yield checker
