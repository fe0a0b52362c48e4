"""A launch, its findings, and what differs from another, as text for people and as JSON for machines."""

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from harness.config.base import spelled
from harness.config.loss import DEFAULT_AVERAGING, LossSettings
from harness.console import command
from harness.preflight.rules import SENTENCES, SEVERITIES, Finding, version_of
from harness.preflight.shell import UNKNOWN
from harness.preflight.terms import Terms, numeral

WIDTH = 118
Read = list[tuple[Terms, list[Finding]]]  # each launch with its findings
SAID = SENTENCES["said"]
LABELS = {"confound": "CONFOUND", "unknown": "UNKNOWN", "loss": "the loss's own"}
# Beginnings of keys that change what is kept, shown or evaluated, and not what is trained.
NAMES = ("output", "run", "log", "save", "report", "push", "hub", "trainer.", "ENV.", "vllm_server", "eval")
OFF = (None, False, 0, -1, "none")  # one setting under the names of several libraries


@dataclass(frozen=True)
class Difference:
    """A quantity with its values and lines; a line is None where the launch does not set it."""

    kind: str  # confound, unknown (a confound unless the value that is not known is the same), loss or other
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
            is_unknown = kind == "confound" and any(UNKNOWN in str(value) for value in values)
            found.append(Difference("unknown" if is_unknown else kind, name, values, lines))

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
    return sorted(found, key=lambda one: ["confound", "unknown", one.kind].index(one.kind))


def as_given(terms: Terms, key: str, value: Any) -> Any:
    """The value, or the key's text where that is not known, so that one variable in both launches is one value."""
    given = terms.given(key)
    return given.text if given and terms.value(key) == UNKNOWN else value


def text(value: Any) -> str:
    if isinstance(value, str):
        return str(SAID.get("unknown" if UNKNOWN in value else value, value))
    return numeral(value) if isinstance(value, float) else spelled(value)


def described(terms: Terms, found: list[Finding]) -> dict[str, str]:
    """The loss that will run, a line per quantity; our command for it only where our settings take it."""
    kind = terms.loss.get("loss_type")
    low, high = terms.number("clip_low"), terms.number("clip_high")
    clip = {"low": UNKNOWN if low is None else 1 - low, "high": UNKNOWN if high is None else 1 + high}
    words = {name: text(value) for name, value in (terms.values | terms.loss | clip).items()}
    named = f"{terms.spelled(terms.table.terms['loss'])} {text(terms['loss'])}"
    cut = f", log-ratios cut at {words['log_ratio_clamp']}" if "log_ratio_clamp" in words else ""
    kl = "none" if terms["beta"] == 0 else f"{words['beta']}{' in the loss' * (terms['beta'] != UNKNOWN)}"
    foreign = SAID["unknown" if terms["loss"] == UNKNOWN else "foreign"]
    ratio = "of a token or of a response: not known" if terms["ratio_of"] == UNKNOWN else f"of a {words['ratio_of']}"
    per_update = counted(terms["responses_per_update"], "response")
    lines = {
        "loss": f"{kind or foreign} ({named})",
        "averaging": words["averaging_word"].format(**words),
        "advantages": words["advantage_scale"],
        "ratio": f"{ratio}, to the policy at the start of its rollout{cut}",
        "clip": SENTENCES["clips"][kind].format(**words).replace(SAID["unknown"], "?") if kind else foreign,
        "KL": kl + (f", {words['kl_in_reward']} in the reward" if terms.number("kl_in_reward") else ""),
        "updates": updates(terms),
        "rate": f"{words['lr']}, {per_update} an update",
    }
    is_ours = kind and (terms["ratio_of"] == "token" or kind == "gspo") and UNKNOWN not in terms.loss.values()
    is_ours = is_ours and not {"invalid_value", "delta_inside"} & {one.code for one in found}
    return lines | ({"in ours": command("harness", "show", *flags(terms))} if is_ours else {})


def updates(terms: Terms) -> str:
    """How many updates a rollout gives, and what a rollout is."""
    per_rollout, prompts = terms.number("updates_per_rollout"), terms.number("prompts_per_step")
    size = counted(terms["group_size"], "response")
    rollout = f"{counted(terms['prompts_per_step'], 'prompt')} x {size}"
    if prompts and prompts % 1:
        responses = counted(terms["responses_per_rollout"], "response")
        rollout = f"{responses}, which do not divide into groups of {text(terms['group_size'])}"
    if per_rollout is None:
        return f"how many per rollout is not known; a rollout has {rollout}"
    share = Fraction(per_rollout).limit_denominator(1000)
    return f"{share.numerator} per {counted(share.denominator, 'rollout').removeprefix('1 ')} of {rollout}"


def counted(value: Any, noun: str) -> str:
    """`1 prompt`, `8 prompts`, `an unknown number of prompts`."""
    return f"{'an unknown number of' if value == UNKNOWN else text(value)} {noun}{'s' * (value != 1)}"


def flags(terms: Terms) -> Iterator[str]:
    """The settings of our command `show` that give the same loss, where they are not its defaults."""
    for name, value in terms.loss.items():
        field = LossSettings.model_fields[name]
        default = DEFAULT_AVERAGING.get(terms.loss["loss_type"]) if name == "averaging" else field.default
        is_ours = name not in ("advantage_scale", "averaging") or value in SAID
        if is_ours and (value != default or name == "loss_type"):
            yield from (f"--{name}", f"{value:.15g}" if isinstance(value, float) else spelled(value))


def page(read: Read, between: list[Difference]) -> Iterator[str]:
    """The lines of the page: each launch with its findings, then what differs between them."""
    for terms, found in read:
        yield f"{terms.launch.path}:{terms.launch.line}: {version_of(terms)} ({terms.launch.program})"
        for name, words in described(terms, found).items():
            yield from textwrap.wrap(words, WIDTH, initial_indent=f"  {name:12}", subsequent_indent=" " * 14)
        yield ""
        for one in found:
            yield f"{one.path}:{one.line}: {one.severity}: {one.what} [{one.code}]"
            for label, words in (("why: ", one.why), ("change: ", one.change)):
                yield from textwrap.wrap(words, WIDTH, initial_indent=f"    {label}", subsequent_indent=" " * 8)
        yield from [""] if found else []
    if len(read) == 2:
        yield from table(read, between)
    kinds = [one.severity for _, found in read for one in found] + [one.kind for one in between]
    counts = [(kind, kinds.count(kind)) for kind in (*SEVERITIES, "confound", "unknown")]
    is_all_known = not re.search(r"\b(not known|unknown)\b", str([described(*one) for one in read]))
    nothing = "nothing found" if is_all_known else "nothing found in what is known"
    yield ", ".join(counted(count, kind) for kind, count in counts if count) or nothing


def table(read: Read, between: list[Difference]) -> Iterator[str]:
    """The differences, each value with its line."""
    rows = [["", *(terms.launch.path.name for terms, _ in read), ""]]
    for one in between:
        none = "none" if one.kind == "confound" else "-"
        texts = [none if value is None else shown(one, value) for value in one.values]
        cells = [f"{said}  (line {line})" if line else said for said, line in zip(texts, one.lines, strict=True)]
        rows.append([one.name, *cells, LABELS.get(one.kind, "")])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield "" if between else "no difference\n"


def shown(one: Difference, value: Any) -> str:
    """A value in a cell. The words for averagings and advantages are for the loss alone: schedules are constant too."""
    is_word = isinstance(value, str) and value != UNKNOWN and one.kind != "loss"
    return (value.replace(UNKNOWN, "...") if is_word else text(value))[:40]


def as_json(read: Read, between: list[Difference]) -> str:
    """The same as JSON; what is not known, or known in part, is null."""
    launches = []
    for terms, found in read:
        launch = {"path": terms.launch.path, "line": terms.launch.line, "library": version_of(terms)}
        launches.append(launch | {"settings": terms.values | terms.loss, "findings": [vars(one) for one in found]})
    page = {"launches": launches, "differences": [vars(one) for one in between]}
    return re.sub(r'"(\\.|[^"\\])*\\u0000(\\.|[^"\\])*"', "null", json.dumps(page, indent=2, default=str))
