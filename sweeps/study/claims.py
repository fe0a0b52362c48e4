"""The claims that a study is to decide, fixed in its folder before its runs start. `analysis` says what they mean."""

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import UsageError
from sweeps.study.folder import other_study, read_json

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "analysis" / "claims"
FILE = "claims.toml"


def add_claims(parser: argparse._ActionsContainer, default: str = "the family's") -> None:
    """The flag that says what the study is to decide."""
    parser.add_argument(
        "--claims",
        metavar="C",
        help=f"what is to be decided, fixed before the runs: a name in analysis/claims, a TOML file, or none "
        f"(default: {default})",
    )


def check_claims(name: str) -> None:
    """Raise UsageError unless `name` is none or a claims file that analysis can decide by."""
    if name == "none":
        return
    file = claims_file(name)
    # In a process of its own: sweeps does not import analysis, and a comparison has no other use for its libraries.
    checked = subprocess.run(
        [sys.executable, "-m", "analysis", "claims", str(file)], cwd=ROOT, capture_output=True, text=True
    )
    if checked.returncode:
        raise UsageError(f"--claims: {checked.stderr.strip() or 'python -m analysis claims failed'}")


def fixed_claims(study: Path, asked: str | None, default: str) -> Mapping[str, Any] | None:
    """The study's claims as study.json names them, None without; copied into the folder of a study that begins.

    Raises UsageError where other claims are asked of a study that has begun.
    """
    described = read_json(study / "study.json")
    if described is None and (asked or default) == "none":
        return None
    if described is None:
        file = claims_file(asked or default)
        (study / FILE).write_bytes(file.read_bytes())
        fixed_at = datetime.now(UTC).isoformat(timespec="seconds")
        return {"name": file.stem, "sha256": sha256_of(file), "fixed_at": fixed_at}
    recorded: Mapping[str, Any] | None = described.get("claims")
    if asked is not None:
        sha256 = None if asked == "none" else sha256_of(claims_file(asked))
        if sha256 != (recorded or {}).get("sha256"):
            words = recorded["name"] if recorded else "no claims"
            raise other_study(study, f"it was begun with {words}, and claims are fixed before the runs start")
    return recorded


def claims_file(name: str) -> Path:
    """A shipped claims file by its name, or the user's by its path."""
    shipped = SHIPPED / f"{name}.toml"
    return (shipped if shipped.is_file() else Path(name)).resolve()


def sha256_of(file: Path) -> str:
    """The hash of a claims file's bytes. Raises UsageError where there is none."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"--claims: expected a shipped name or a TOML file, got {str(file)!r}: {error}") from None
