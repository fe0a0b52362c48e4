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
        raise UsageError(
            f"--claims: {checked.stderr.strip().removeprefix('error: ') or 'python -m analysis claims failed'}"
        )


def fixed_claims(study: Path, asked: str | None, default: str) -> Mapping[str, Any] | None:
    """The study's claims as study.json names them, None without; copied into the folder of a study that begins.

    Raises UsageError where other claims are asked of a study that has begun.
    """
    described, name = read_json(study / "study.json"), asked or default
    claims: dict[str, Any] = {}
    if name != "none":
        content = claims_file(name).read_bytes()
        claims = {"name": claims_file(name).stem, "sha256": hashlib.sha256(content).hexdigest()}
        if described is None:
            (study / FILE).write_bytes(content)
            return {**claims, "fixed_at": datetime.now(UTC).isoformat(timespec="seconds")}
    if described is None:
        return None
    recorded: Mapping[str, Any] = described.get("claims") or {}
    if asked is not None and claims.get("sha256") != recorded.get("sha256"):
        words = recorded.get("name", "no claims")
        raise other_study(study, f"it was begun with {words}, and claims are fixed before the runs start")
    return recorded or None


def claims_file(name: str) -> Path:
    """A shipped claims file by its name, or the user's by its path."""
    shipped = SHIPPED / f"{name}.toml"
    return (shipped if shipped.is_file() else Path(name)).resolve()
