"""What a person is shown of a plan: what differs between the arms, or what the blocks ask."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from harness import Difference


def differences_table(differences: Sequence[Difference]) -> Table:
    """For each arm the settings in which it differs from the first, with what the family does not admit marked."""
    first, *others = differences[0].values
    table = Table(title="what differs between the arms", title_justify="left")
    for name in ("arm", f"differs from {first} in"):
        table.add_column(name)
    for name in others:
        words = [
            f"{one.field} {shown(one.values[name])} ({shown(one.values[first])}){'' if one.allowed else ' CONFOUND'}"
            for one in differences
            if one.values[name] != one.values[first]
        ]
        table.add_row(name, ", ".join(words))
    return table


def blocks_table(design: Mapping[str, Any]) -> Table:
    """The blocks of a study: what each asks, of which arms, over what."""
    table = Table(title=str(design["title"]), title_justify="left")
    for column in ("block", "question", "arms", "varied", "seeds"):
        table.add_column(column)
    for name, block in design["blocks"].items():
        levels = list(dict.fromkeys(str(cell["level"]) for cell in block["cells"]))
        varied = f"{', '.join(block['varied'])}: {', '.join(levels)}" if block["varied"] else ""
        arms = ", ".join(dict.fromkeys(cell["arm"] for cell in block["cells"]))
        table.add_row(name, block["question"], arms, varied, str(block["seeds"]))
    return table


def shown(value: object) -> str:
    """A setting's value; a dash where the arm's loss has no such setting."""
    return "-" if value is None else str(value)
