"""What differs between two launches: first what confounds a comparison of their losses, then the rest."""

from collections.abc import Iterator
from typing import Any

from harness.config.base import spelled
from harness.preflight.rules import SENTENCES, Finding, by_severity, finding
from harness.preflight.shell import UNKNOWN
from harness.preflight.terms import Terms

NAMES = ("output", "run", "logging", "save", "report", "push", "hub", "trainer.", "ENV.", "log", "vllm_server", "val", "test")


def differences(ours: Terms, theirs: Terms) -> list[Finding]:
    """A finding for each term in which the launches differ, at its line in the first one."""
    found = list(of_terms(ours, theirs))
    return by_severity([*found, *of_loss(ours, theirs), *of_keys(ours, theirs)])


def of_terms(ours: Terms, theirs: Terms) -> Iterator[Finding]:
    for name, words in SENTENCES["terms"].items():
        if shown(ours, name) != shown(theirs, name):
            yield differing("differs", ours, theirs, ours.table.terms.get(name, ""), words, (ours[name], theirs[name]))


def of_loss(ours: Terms, theirs: Terms) -> Iterator[Finding]:
    keys = {"averaging": "averaging", "beta": "beta"} | ours.table.losses.get(ours["loss"], {}).get("flags", {})
    for name in [*ours.loss, *(name for name in theirs.loss if name not in ours.loss)]:
        values = ours.loss.get(name), theirs.loss.get(name)
        if values[0] != values[1]:
            key = keys.get(name, ours.table.terms["loss"])
            yield differing("own", ours, theirs, ours.table.terms.get(key, key), name, values)


def of_keys(ours: Terms, theirs: Terms) -> Iterator[Finding]:
    """Keys of one library that no term covers and that one of the launches sets otherwise."""
    if ours.launch.library != theirs.launch.library:
        return
    flags = {key for terms in (ours, theirs) for loss in terms.table.losses.values() for key in loss.get("flags", {}).values()}
    for key in sorted({*ours.launch.given, *theirs.launch.given} - {*ours.table.terms.values(), *flags}):
        values = ours.value(key), theirs.value(key)
        if values[0] != values[1] and not key.startswith(NAMES):
            yield differing("other_key", ours, theirs, key, ours.spelled(key), values)


def shown(terms: Terms, name: str) -> Any:
    """What is compared: the text where the value is not known, so that the same variable is the same value."""
    given = terms.given(terms.table.terms.get(name, ""))
    return given.text if terms[name] == UNKNOWN and given else terms[name]


def differing(code: str, ours: Terms, theirs: Terms, key: str, name: str, values: tuple[Any, Any]) -> Finding:
    texts = ["not known" if value == UNKNOWN else spelled(value) for value in values]
    keys = [key] if key else []
    return finding(ours, code, *keys, name=name, ours=texts[0], theirs=texts[1], other=theirs.launch.path.name)
