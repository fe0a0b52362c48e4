"""What a study is to decide, as data: a TOML file of claims that is fixed, with its hash, before the runs start."""

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeGuard

from analysis.errors import RecordsError

SHIPPED = Path(__file__).parents[1] / "claims"
ONE_ARM_METRICS = (
    "length_slope",
    *(f"credit/{part}" for part in ("polarity", "response", "placement", "headroom", "blame")),
)
CHOICES = {
    "role": ("primary", "exploratory"),
    "kind": ("superior", "equivalent"),
    "direction": ("higher", "lower"),
    "metric": ("auc", "final_accuracy", "accuracy_at_equal_tokens", "final_response_tokens", *ONE_ARM_METRICS),
    "levels": (None, "own_best", "mean"),
}
TREND = ("parameter", "start", "end")
TREND_METRICS = ("auc", "final_accuracy", "final_response_tokens")


@dataclass(frozen=True)
class Claim:
    """One question with everything that decides it but the runs.

    superior: in `metric`, `arm` lies above `baseline` (below, where direction is lower) by more than `margin`.
    equivalent: they lie within `margin` of each other. Without a baseline the arm's own value is meant, against 0.
    With a parameter the effect is the change of `arm` from start to end along its trend over the levels of the setting
    that a block varies.
    levels: how a block's levels make one score per seed: the level that is best for the arm's other seeds, or the mean.
    margin: in the metric's unit, the smallest effect that would matter.
    """

    id: str
    text: str
    source: str
    role: Literal["primary", "exploratory"]
    kind: Literal["superior", "equivalent"]
    arm: str
    metric: str
    margin: float
    baseline: str | None = None
    direction: Literal["higher", "lower"] = "higher"
    parameter: str | None = None
    levels: Literal["own_best", "mean"] | None = None
    start: float | None = None
    end: float | None = None

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that it names."""
        return (self.arm,) if self.baseline is None else (self.arm, self.baseline)


@dataclass(frozen=True)
class Claims:
    """A claims file: its name, the sha256 of its bytes and its claims in its order."""

    name: str
    sha256: str
    title: str
    claims: tuple[Claim, ...]


def read_claims(path: Path, name: str | None = None) -> Claims:
    """The claims in a TOML file. Raises RecordsError, with the claim's id, for anything that could not be decided."""
    try:
        content = path.read_bytes()
        tree = tomllib.loads(content.decode("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.toml")))
        raise RecordsError(f"expected a TOML file of claims, or {shipped}, got {path} ({why}): name one") from None
    rows = tree.get("claim")
    if not isinstance(rows, list) or not rows:
        raise RecordsError(f"expected [[claim]] tables in {path}, got none: see {SHIPPED / 'fipo-paper.toml'}")
    claims = tuple(_claim(row, path) for row in rows)
    ids = [claim.id for claim in claims]
    if twice := sorted({each for each in ids if ids.count(each) > 1}):
        raise RecordsError(f"expected each id once in {path}, got {twice[0]!r} twice: rename one")
    title = str(tree.get("title", path.stem))
    return Claims(name or path.stem, hashlib.sha256(content).hexdigest(), title, claims)


def claims_of(folder: Path, description: Mapping[str, Any]) -> Claims | None:
    """The claims that a study.json names, from the study's own copy, which must still be what was fixed."""
    recorded = description.get("claims")
    if recorded is None:
        return None
    claims = read_claims(folder / "claims.toml", str(recorded.get("name")))
    if claims.sha256 != recorded.get("sha256"):
        raise RecordsError(
            f"expected {folder / 'claims.toml'} as it was fixed before the runs, got sha256 {claims.sha256[:12]}... "
            f"and not {str(recorded.get('sha256'))[:12]}...: restore it"
        )
    return claims


def claims_file(name: str) -> Path:
    """A shipped claims file by its name, or the user's by its path."""
    shipped = SHIPPED / f"{name}.toml"
    return shipped if shipped.is_file() else Path(name)


def _claim(row: Mapping[str, Any], path: Path) -> Claim:
    given = {{"from": "start", "to": "end"}.get(key, key): value for key, value in row.items()}
    place = f"claim {given.get('id', '?')!r} of {path}"
    known = {field.name for field in fields(Claim)}
    needed = [field.name for field in fields(Claim) if field.default is MISSING]
    if unknown := sorted(set(given) - known):
        raise RecordsError(f"expected fields {', '.join(sorted(known))} in {place}, got {unknown[0]!r}")
    if missing := [name for name in needed if name not in given]:
        raise RecordsError(f"expected {', '.join(needed)} in {place}, got none for {missing[0]}: add it")
    _check_values(given, place)
    return Claim(**given)


def _check_values(given: Mapping[str, Any], place: str) -> None:
    """Words from their lists, a margin that can be met, and a claim that is either about arms or about a grid."""
    for name, choices in CHOICES.items():
        if given.get(name, choices[0]) not in choices:
            words = ", ".join(filter(None, choices))
            raise RecordsError(f"expected {name} to be one of {words} in {place}, got {given[name]!r}")
    margin, least = given["margin"], "above 0" if given["kind"] == "equivalent" else "0 or more"
    if not _is_number(margin) or margin < 0 or (margin == 0 and given["kind"] == "equivalent"):
        raise RecordsError(f"expected a margin {least} in {place}, got {margin!r}")
    if (alone := "baseline" not in given) != (given["metric"] in ONE_ARM_METRICS or "parameter" in given):
        rule = "a baseline" if alone else "no baseline"
        raise RecordsError(f"expected {rule} in {place}, got {'none' if alone else given['baseline']!r}")
    if some := [name for name in TREND if name in given]:
        _check_trend(given, some, place)


def _check_trend(given: Mapping[str, Any], some: Sequence[str], place: str) -> None:
    start, end = given.get("start"), given.get("end")
    if len(some) < len(TREND) or not (_is_number(start) and _is_number(end) and 0 < start < end):
        raise RecordsError(
            f"expected parameter, from and to with 0 < from < to in {place}, got {', '.join(some)} = "
            f"{', '.join(repr(given[name]) for name in some)}"
        )
    if given["metric"] not in TREND_METRICS:
        raise RecordsError(
            f"expected one of {', '.join(TREND_METRICS)} as metric for a trend in {place}, got {given['metric']!r}"
        )


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value and abs(value) < 1e300
