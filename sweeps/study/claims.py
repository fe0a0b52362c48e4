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
DEFAULT = "fipo-paper"
FILE = "claims.toml"


def add_claims(parser: argparse._ActionsContainer, default: str = DEFAULT) -> None:
    """The flag that says what the study is to decide."""
    parser.add_argument(
        "--claims",
        metavar="C",
        help=f"what is to be decided, fixed before the runs: a name in analysis/claims, a TOML file, or none "
        f"(default: {default})",
    )


def check_claims(name: str | None) -> None:
    """Raise UsageError unless `name` is none or a claims file that analysis can decide by."""
    if name == "none":
        return
    file = claims_file(name or DEFAULT)
    # In a process of its own: sweeps does not import analysis, and a comparison has no other use for its libraries.
    checked = subprocess.run(
        [sys.executable, "-m", "analysis", "claims", str(file)], cwd=ROOT, capture_output=True, text=True
    )
    if checked.returncode:
        raise UsageError(f"--claims: {checked.stderr.strip() or 'python -m analysis claims failed'}")


def fixed_claims(study: Path, name: str | None) -> Mapping[str, Any] | None:
    """The study's claims as study.json names them, None without; copied into the folder of a study that begins.

    Raises UsageError where other claims are asked of a study that has begun.
    """
    described = read_json(study / "study.json")
    if described is None:
        return None if name == "none" else copied(study, name or DEFAULT)
    recorded: Mapping[str, Any] | None = described.get("claims")
    asked = None if name == "none" else sha256_of(claims_file(name or DEFAULT))
    if name is not None and asked != (recorded or {}).get("sha256"):
        words = recorded["name"] if recorded else "no claims"
        raise other_study(study, f"it was begun with {words}, and claims are fixed before the runs start")
    return recorded


def copied(study: Path, name: str) -> Mapping[str, Any]:
    """Copy the claims file into the study, and say which it was, of what content, and when."""
    file = claims_file(name)
    (study / FILE).write_bytes(file.read_bytes())
    fixed_at = datetime.now(UTC).isoformat(timespec="seconds")
    return {"name": file.stem, "sha256": sha256_of(file), "fixed_at": fixed_at}


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
