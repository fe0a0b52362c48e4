"""What differs between two launches: what confounds a comparison of their losses, then the losses, then the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.preflight.rules import SENTENCES
from harness.preflight.shell import UNKNOWN
from harness.preflight.terms import Terms

# Beginnings of keys that change what is kept, shown or evaluated, and not what is trained.
NAMES = ("output", "run", "log", "save", "report", "push", "hub", "trainer.", "ENV.", "vllm_server", "eval")
KINDS = ("confound", "unsure")  # first in the table; then the losses and the rest, as they come
OFF = (None, False, 0, -1, "none")  # one setting under the names of several libraries


@dataclass(frozen=True)
class Difference:
    """A quantity with its values and lines; a line is None where the launch does not set it."""

    kind: str  # confound, unsure (of which one value is not known), loss or other
    name: str
    values: Sequence[Any]
    lines: Sequence[int | None]


def differences(ours: Terms, theirs: Terms) -> list[Difference]:
    """The differences, confounds first."""
    both, found, is_one_library = (ours, theirs), [], ours.table is theirs.table

    def compare(kind: str, name: str, keys: list[str], values: list[Any]) -> None:
        is_off = kind == "confound" and name != "seed" and all(value in OFF for value in values)
        if values[0] != values[1] and not is_off:
            lines = [given.line if (given := terms.given(key)) else None for terms, key in zip(both, keys, strict=True)]
            is_unsure = kind == "confound" and any(UNKNOWN in str(value) for value in values)
            found.append(Difference("unsure" if is_unsure else kind, name, values, lines))

    for name, words in SENTENCES["terms"].items():
        keys = [terms.table.terms.get(name, "") for terms in both]
        values = [as_given(terms, key, terms[name]) for terms, key in zip(both, keys, strict=True)]
        if values == [UNKNOWN, UNKNOWN] and is_one_library:  # computed from several keys, which can be compared
            words, values = ours.spelled(keys[0]), [terms.value(keys[0]) for terms in both]
        compare("confound", words, keys, values)
    for name in ({} if ours.loss and theirs.loss else {"loss": None}) | ours.loss | theirs.loss:
        common = "loss" if name == "loss_type" else name
        keys = [terms.flags.get(name) or terms.table.terms.get(common, "") for terms in both]
        compare("loss", name, keys, [terms.loss.get(name, terms[name]) for terms in both])
    covered = {*ours.table.terms.values(), *ours.flags.values(), *theirs.flags.values(), *ours.table.dead}
    rest = {*ours.launch.given, *theirs.launch.given} - covered if is_one_library else ()
    for key in sorted(key for key in rest if not key.startswith(NAMES)):
        kind = "confound" if "batch_size" in key and "micro" not in key else "other"
        compare(kind, ours.spelled(key), [key, key], [as_given(terms, key, terms.value(key)) for terms in both])
    return sorted(found, key=lambda one: [*KINDS, one.kind].index(one.kind))


def as_given(terms: Terms, key: str, value: Any) -> Any:
    """The value, or the key's text where that is not known, so that one variable in both launches is one value."""
    given = terms.given(key)
    return given.text if given and terms.value(key) == UNKNOWN else value
