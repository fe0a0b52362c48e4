from pathlib import Path

import pytest

from harness.run.folder import FolderFault, check_manifest, save_folder


def filled(folder: Path) -> None:
    (folder / "templates").mkdir()
    (folder / "templates" / "tool.jinja").write_text("{{ x }}", encoding="utf-8")
    (folder / "weights").write_bytes(b"1")


def test_a_folder_within_the_folder_is_covered(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "final"
    save_folder(folder, filled)
    check_manifest(folder)
    (folder / "templates" / "tool.jinja").write_text("{{ y }}", encoding="utf-8")
    with pytest.raises(FolderFault, match=r"tool\.jinja: has changed since it was written"):
        check_manifest(folder)


def test_what_was_planted_within_it_is_found(tmp_path: Path) -> None:
    save_folder(tmp_path / "final", filled)
    (tmp_path / "final" / "templates" / "more").touch()
    with pytest.raises(FolderFault, match=r"and no others, got templates/more, templates/tool\.jinja, weights"):
        check_manifest(tmp_path / "final")


def test_all_files_have_the_mode_of_any_other(tmp_path: Path) -> None:
    def private(folder: Path) -> None:
        (folder / "weights").touch(mode=0o600)

    save_folder(tmp_path / "final", private)
    (tmp_path / "other").touch()
    modes = [file.stat().st_mode for file in (tmp_path / "final" / "weights", tmp_path / "other")]
    assert modes[0] == modes[1]


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    def failing(folder: Path) -> None:
        filled(folder)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        save_folder(tmp_path / "final", failing)
    assert list(tmp_path.iterdir()) == []
