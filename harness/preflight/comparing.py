"""What differs between two launches: what confounds a comparison of their losses, then the losses, then the rest."""

from collections.abc import Iterator
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
    values: tuple[Any, Any]
    lines: tuple[int | None, int | None]


def differences(ours: Terms, theirs: Terms) -> list[Difference]:
    def found(kind: str, name: str, keys: tuple[str, str], values: tuple[Any, Any]) -> Difference:
        given = [terms.given(key) for terms, key in zip((ours, theirs), keys, strict=True)]
        lines = [one.line if one else None for one in given]
        return Difference(kind, name, values, (lines[0], lines[1]))

    confounds, losses, others = [], [], []
    for name, words in SENTENCES["terms"].items():
        if shown(ours, name) != shown(theirs, name):
            keys = ours.table.terms.get(name, ""), theirs.table.terms.get(name, "")
            confounds.append(found("confound", words, keys, (ours[name], theirs[name])))
    for name in {"loss": None} | ours.loss | theirs.loss:
        values = ours.loss.get(name, ours[name]), theirs.loss.get(name, theirs[name])
        if values[0] != values[1] and not (name == "loss" and ours.loss and theirs.loss):
            losses.append(found("loss", name, (key_of(ours, name), key_of(theirs, name)), values))
    for key in other_keys(ours, theirs):
        is_batch = "batch_size" in key and "micro" not in key
        values = ours.value(key), theirs.value(key)
        others.append(found("confound" if is_batch else "other", ours.spelled(key), (key, key), values))
    return sorted(confounds + losses + others, key=lambda one: one.kind != "confound")


def other_keys(ours: Terms, theirs: Terms) -> Iterator[str]:
    """Keys of one library that differ and that no quantity and no loss covers."""
    covered = {*ours.table.terms.values(), *ours.flags.values(), *theirs.flags.values(), *ours.table.dead}
    for key in sorted({*ours.launch.given, *theirs.launch.given} - covered):
        if ours.table is theirs.table and ours.value(key) != theirs.value(key) and not key.startswith(NAMES):
            yield key


def key_of(terms: Terms, name: str) -> str:
    return terms.flags.get(name) or terms.table.terms.get({"loss_type": "loss"}.get(name, name), "")


def shown(terms: Terms, name: str) -> Any:
    """What is compared: the text where the value is not known, so that one variable is one value."""
    given = terms.given(terms.table.terms.get(name, ""))
    return given.text if given and terms[name] == UNKNOWN else terms[name]
