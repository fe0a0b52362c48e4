"""TOML files written by hand, and a family."""

from pathlib import Path

HEAD = 'description = "for a test"\nallowed = ["loss_type", "averaging", "epsilon_high"]\n'
ARMS = '[arms.one]\nloss_type = "grpo"\n[arms.two]\nloss_type = "dapo"\n'


def written(folder: Path, content: str) -> str:
    """The file's path as --family and --space take it."""
    path = folder / "own.toml"
    path.write_text(content, encoding="utf-8")
    return str(path)
