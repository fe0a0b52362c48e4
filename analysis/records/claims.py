"""What a study is to decide, as data: a TOML file of claims that is fixed, with its hash, before the runs start."""

import hashlib
import tomllib
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from analysis.errors import RecordsError

SHIPPED = Path(__file__).parents[1] / "claims"
Credit = Literal["credit/polarity", "credit/response", "credit/placement", "credit/headroom", "credit/blame"]
OF_TRENDS = "auc", "final_accuracy", "final_response_tokens"


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class Claim:
    """One question with everything that decides it but the runs.

    superior: in `metric`, `arm` lies above `baseline` (below, where direction is lower) by more than `margin`.
    equivalent: they lie within `margin` of each other. Without a baseline the arm's own value is meant, against 0.
    With a parameter the effect is the change of `arm` from start to end (in the file: from, to) along its trend over
    the levels of the setting that a block varies.
    levels: how a block's levels make one score per seed: the level that is best for the arm's other seeds, or the mean.
    margin: in the metric's unit, the smallest effect that would matter.
    Raises ValueError for one that could not be decided.
    """

    id: str
    text: str
    source: str
    role: Literal["primary", "exploratory"]
    kind: Literal["superior", "equivalent"]
    arm: str
    metric: (
        Literal["auc", "final_accuracy", "accuracy_at_equal_tokens", "final_response_tokens", "length_slope"] | Credit
    )
    margin: int | float
    baseline: str | None = None
    direction: Literal["higher", "lower"] = "higher"
    parameter: str | None = None
    levels: Literal["own_best", "mean"] | None = None
    start: int | float | None = None
    end: int | float | None = None

    def __post_init__(self) -> None:
        """A margin that can be met, and a claim that is about two arms, about one or about a trend."""
        if not 0 <= self.margin < inf or (self.margin == 0 and self.kind == "equivalent"):
            least = "above 0" if self.kind == "equivalent" else "0 or more"
            raise ValueError(f"expected a margin {least}")
        is_trend = self.parameter is not None
        alone = is_trend or self.metric == "length_slope" or self.metric.startswith("credit/")
        if alone != (self.baseline is None):
            raise ValueError(f"expected {'no baseline' if alone else 'a baseline'}")
        ends = (self.start, self.end)
        if is_trend != (ends != (None, None)) or (is_trend and not 0 < (self.start or 0) < (self.end or 0) < inf):
            raise ValueError("expected parameter, from and to with 0 < from < to")
        if is_trend and self.metric not in OF_TRENDS:
            raise ValueError(f"expected one of {', '.join(OF_TRENDS)} as metric for a trend")

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
    try:
        return Claim(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name, value = "".join(map(str, first["loc"][:1])), repr(first["input"])
        value = "none" if first["type"] == "missing" else value
        wrong = f"{name}: {first['msg']}, got {value}" if name else first["msg"].removeprefix("Value error, ")
        place = f"claim {given.get('id', '?')!r} of {path}"
        raise RecordsError(f"expected a claim that can be decided, got {place} with {wrong}") from None
