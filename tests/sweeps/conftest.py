import pytest

from tests.harness import tiny


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model that answers directly, as a transformers folder."""
    return tiny.save_direct_answers(tmp_path_factory.mktemp("model"))
