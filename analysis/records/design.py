"""What a study.json plans: arms, what each is for, and blocks. A comparison is a study of one block."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from analysis.errors import RecordsError

COMPARISON = "comparison"  # the one block of a study that has no design
RoleName = Literal["positive", "negative", "identical", "repeat", "placebo"]


@dataclass(frozen=True)
class Role:
    """What an arm is for, as its family's file says.

    like: the arm that its settings start from. against: the arm that it is held against. planted: it stands for a
    control and is none of the losses that are compared.
    """

    label: str | None = None
    like: str | None = None
    role: RoleName | None = None
    against: str | None = None
    planted: bool = False


@dataclass(frozen=True)
class Arm:
    """A named config of a study, in a study of blocks a cell."""

    name: str
    loss_type: str
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Cell:
    """An arm of a block at one of its levels, and the study's arm that holds its runs."""

    block: str
    arm: str
    level: Any
    place: int
    cell: str


@dataclass(frozen=True)
class Block:
    """One question of a study.

    arms: names of the family, in order. varied: no setting, one or two. levels: what they are set to, each a value or,
    of two settings, a tuple of two values; (None,) where nothing is varied. settings: what all of its runs share.
    """

    name: str
    question: str
    arms: tuple[str, ...]
    baseline: str
    varied: tuple[str, ...] = ()
    levels: tuple[Any, ...] = (None,)
    seeds: int = 0
    first_seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What study.json says of its arms, besides the claims.

    roles: by the family's name of an arm. blocks, cells: a comparison has one block; in a study of blocks an arm of
    `arms` is a cell. warm_starts: seed s starts from warm start s mod `warm_starts`. In a study of forks a seed is a
    fork, and a warm start is a state of a recorded run.
    """

    arms: tuple[Arm, ...]
    roles: Mapping[str, Role]
    blocks: Mapping[str, Block]
    cells: tuple[Cell, ...]
    warm_starts: int


def plan_of(description: Mapping[str, Any], path: Path) -> Plan:
    """The plan in the content of `path`. Raises RecordsError where it is incomplete."""
    try:
        arms = tuple(Arm(row["name"], row["loss_type"], tuple(row["seeds"])) for row in description["arms"])
        roles = {name: Role(**row) for name, row in description.get("roles", {}).items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordsError(
            f"expected arms with name, loss_type and seeds in {path}, got no {error}: is it complete?"
        ) from error
    design = description.get("design")
    if not isinstance(design, dict):
        forked = description.get("fork", {}).get("states", [None])  # a state stands where a warm start does
        return plan_of_arms(arms, roles, len(forked))
    try:
        return Plan(arms, roles, *_blocks(design["blocks"]), int(design["warm_starts"]))
    except (KeyError, TypeError, ValueError) as error:
        raise RecordsError(f"expected blocks with cells in {path}, got no {error}: restore it") from None


def plan_of_arms(arms: tuple[Arm, ...], roles: Mapping[str, Role], warm_starts: int = 1) -> Plan:
    """A comparison of these arms as a study of one block.

    Its baseline is the arm that most controls are held against, else the first one.
    """
    names = tuple(arm.name for arm in arms)
    planted = {name: role for name, role in roles.items() if role.planted}
    against = Counter(role.against for role in planted.values() if role.against in names)
    compared = [name for name in names if name not in planted] or [*names, ""]
    baseline = str(against.most_common(1)[0][0]) if against else compared[0]
    seeds = sorted({seed for arm in arms for seed in arm.seeds})
    block = Block(COMPARISON, "", names, baseline, seeds=len(seeds), first_seed=seeds[0] if seeds else 0)
    cells = tuple(Cell(COMPARISON, name, None, 0, name) for name in names)
    return Plan(arms, roles, {COMPARISON: block}, cells, warm_starts)


def _blocks(rows: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Block], tuple[Cell, ...]]:
    blocks, cells = dict[str, Block](), list[Cell]()
    for name, row in rows.items():
        places = dict[Any, int]()
        for one in row["cells"]:
            level = tuple(one["level"]) if isinstance(one["level"], list) else one["level"]
            cells.append(Cell(name, str(one["arm"]), level, places.setdefault(level, len(places)), str(one["cell"])))
        arms = tuple(dict.fromkeys(cell.arm for cell in cells if cell.block == name))
        varied = [row["varied"]] if isinstance(row["varied"], str) else row["varied"] or []
        blocks[name] = Block(
            name=name,
            question=str(row["question"]),
            arms=arms,
            baseline=str(row.get("baseline") or arms[0]),
            varied=tuple(varied),
            levels=tuple(places),
            seeds=int(row["seeds"]),
            first_seed=int(row["first_seed"]),
            settings=row.get("settings", {}),
        )
    return blocks, tuple(cells)
