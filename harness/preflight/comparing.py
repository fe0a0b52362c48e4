"""What differs between two launches: what confounds a comparison of their losses, then the losses, then the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.preflight.rules import SENTENCES
from harness.preflight.shell import UNKNOWN
from harness.preflight.terms import Terms

# Beginnings of keys that change what is kept, shown or evaluated, and not what is trained.
NAMES = ("output", "run", "log", "save", "report", "push", "hub", "trainer.", "ENV.", "vllm_server", "eval")


@dataclass(frozen=True)
class Difference:
    """A quantity with its values and lines; a line is None where the launch does not set it."""

    kind: str  # confound, loss or other
    name: str
    values: Sequence[Any]
    lines: Sequence[int | None]


def differences(ours: Terms, theirs: Terms) -> list[Difference]:
    both, found = (ours, theirs), []

    def compare(kind: str, name: str, keys: list[str], values: list[Any]) -> None:
        if values[0] != values[1]:
            given = [terms.given(key) for terms, key in zip(both, keys, strict=True)]
            found.append(Difference(kind, name, values, [one.line if one else None for one in given]))

    for name, words in SENTENCES["terms"].items():
        keys = [terms.table.terms.get(name, "") for terms in both]
        compare("confound", words, keys, [compared(terms, name) for terms in both])
    for name in ({} if ours.loss and theirs.loss else {"loss": None}) | ours.loss | theirs.loss:
        common = "loss" if name == "loss_type" else name
        keys = [terms.flags.get(name) or terms.table.terms.get(common, "") for terms in both]
        compare("loss", name, keys, [terms.loss.get(name, terms[name]) for terms in both])
    covered = {*ours.table.terms.values(), *ours.flags.values(), *theirs.flags.values(), *ours.table.dead}
    rest = {*ours.launch.given, *theirs.launch.given} - covered if ours.table is theirs.table else ()
    for key in sorted(key for key in rest if not key.startswith(NAMES)):
        kind = "confound" if "batch_size" in key and "micro" not in key else "other"
        compare(kind, ours.spelled(key), [key, key], [terms.value(key) for terms in both])
    return sorted(found, key=lambda one: one.kind != "confound")


def compared(terms: Terms, name: str) -> Any:
    """A value as it is compared: off is off however it is spelled, and one variable that is not known is one value."""
    given = terms.given(terms.table.terms.get(name, ""))
    if given and terms[name] == UNKNOWN:
        return given.text
    return None if terms[name] in (None, False, 0, -1) and name != "seed" else terms[name]
