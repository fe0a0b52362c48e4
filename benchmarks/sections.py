"""The words and tables of docs/speed.md; every figure in them is the record's."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

from benchmarks.record import Record
from benchmarks.table import Row, significant


@dataclass(frozen=True)
class Section:
    """Parts of a record that are read together, and what their plots show."""

    title: str
    parts: tuple[str, ...]
    words: str
    plots: Mapping[str, str]  # file name -> caption


SECTIONS = (
    Section(
        "A training step beside TRL",
        ("step",),
        "The real training loop beside TRL's `GRPOTrainer`: the same model, prompts, batch and number of updates, each "
        "in a process of its own on one thread, steps in turn. The floor of a phase is the machine's best product of "
        "float32 matrices on one thread; its ratio is the share of that rate at which the arithmetic that it needs is "
        "done.",
        {
            "speed_tokens": "Trained tokens per CPU second, medians; above ours its ratio to TRL's, the mark is the "
            "target.",
            "speed_step": "Where a step's CPU time goes, and at which share of the rate of matrix products.",
        },
    ),
    Section(
        "Sampling beside transformers' generate",
        ("sampling",),
        "One thread, in turn; `generate` with the better of its static and its dynamic cache, without torch.compile. "
        "It gives tokens alone, ours their log-probabilities and the entropies of what they were drawn from too.",
        {
            "speed_sampling": "Tokens per CPU second, medians (above ours its ratio, the mark is the target), and what "
            "a token costs by number of prompts."
        },
    ),
    Section(
        "Padding",
        ("padding",),
        "How much of what attention computes is padding, per real token; the peer is rows as long as a micro-batch's "
        "longest text. Counted, not timed.",
        {"speed_padding": "Padding per real token, above each bar its size; the mark is the target."},
    ),
    Section(
        "The harness's own share",
        ("overhead", "recording"),
        "All CPU time of a step that is not sampling, log-probabilities or an update, one thread; then the share of "
        "recording by the run's own clock, which is the wall's, and whether memory grows over many steps.",
        {"speed_overhead": "How much of each target is used, and behind the bar what was measured."},
    ),
    Section(
        "Many runs",
        ("runs",),
        "Wall seconds of real commands: slots, starts, the demo and its figures; the mirror's cost in CPU seconds.",
        {"speed_runs": "How much of each target is used, and behind the bar what was measured."},
    ),
    Section(
        "Cost against size",
        ("size",),
        "CPU seconds on one thread, the quickest of several calls, of a report's one, and peak memory. An exponent is "
        "the slope of a line through logarithms: one is linear. Whatever every size costs alike flattens it, so the "
        "slope between the two largest sizes is told beside the judged one.",
        {"speed_size": "Cost against size, and beside each line its exponent; dotted is what would be linear."},
    ),
    Section(
        "On a GPU",
        ("gpu",),
        "Updates and sampling in bfloat16 with models of random weights, beside the rate of matrix products that was "
        "measured in the same run; seconds by the GPU's own clock.",
        {},
    ),
    Section(
        "Losses",
        ("future_kl", "losses", "logprobs"),
        "Future-KL beside the published algorithm, written here as a chunked matrix, and where it is installed beside "
        "ms-swift's own function; whole losses; log-probabilities without the matrix of logits. Seconds of calls in "
        "turn, by the wall's clock or on a GPU by its own; ratios of minima.",
        {"speed_losses": "Time of Future-KL against the length of responses, medians; dotted is what would be linear."},
    ),
)
HEADER = ("figure", "ours", "peer", "floor", "ratio", "target", "met")
WIDTH = 130


def page(record: Record, drawn: Collection[str]) -> str:
    """The whole page, with those plots that could be drawn."""
    sections = [section for section in SECTIONS if record.rows(*section.parts)]
    blocks = ["# Speed, memory and size", wrapped(measured(record)), *targets(record)]
    for section in sections:
        blocks += of_section(section, record, drawn)
    return "\n\n".join(blocks) + "\n"


def wrapped(words: str) -> str:
    """The words in lines as long as those of other pages."""
    return fill(words, WIDTH, break_long_words=False, break_on_hyphens=False)


def measured(record: Record) -> str:
    """What was measured, where, when and how."""
    machine = record.machine
    day, _, clock = str(machine["measured_at"]).partition("T")
    commit, dirty = str(machine["commit"]).removesuffix("-dirty"), str(machine["commit"]).endswith("-dirty")
    return (
        f"`make bench` (`{machine['command']}`) on {day} at {clock}, commit `{commit}`"
        f"{' with uncommitted changes' if dirty else ''}: {hardware(machine)}; {versions(machine)}. What is compared "
        "was run in turn, so that whatever else the machine did fell on all of it. A figure is a median where it does "
        "not say otherwise. Seconds on a CPU are CPU seconds, which waiting for others does not lengthen, where no "
        "section and no row says wall. A ratio is ours over the peer's, or over the floor that hardware or mathematics "
        "sets; a target is the ratio's, or without one our figure's. Written by `python -m benchmarks.page` from "
        f"benchmarks/results/{record.name}, which has every digit."
    )


def hardware(machine: Mapping[str, Any]) -> str:
    """The device, and with how many threads it was used."""
    cores = f", {machine['cores']} cores" if machine.get("cores") else ""
    threads = f"{machine['threads']} thread{'s' if machine['threads'] != 1 else ''}"
    return f"{machine['device']} ({machine['cpu_capability']}){cores}, {threads} where no others are named"


def versions(machine: Mapping[str, Any]) -> str:
    """Of what computed; what the machine did not have is left out."""
    names = {"python": "Python", "torch": "torch", "cuda": "CUDA", "transformers": "transformers", "trl": "TRL"}
    return ", ".join(f"{words} {machine[name]}" for name, words in names.items() if machine.get(name))


def targets(record: Record) -> Iterator[str]:
    """How many targets are missed, and which."""
    judged = sum(bool(row.verdict) for row in record.rows(*record.parts))
    missed = record.missed
    if not missed:
        yield f"All {judged} targets are met."
        return
    yield f"Of {judged} targets {len(missed)} {'is' if len(missed) == 1 else 'are'} missed:"
    yield "\n".join(f"- **NOT MET**: {row.figure}: {judged_figure(row)}, target {row.target}" for row in missed)


def judged_figure(row: Row) -> str:
    """What the target is held against, in words."""
    if row.ratio is None:
        return f"{with_unit(row.value, row.unit)}"
    other, beside = (row.floor, "floor's") if row.peer is None else (row.peer, "peer's")
    values = f"{with_unit(row.value, row.unit)} beside the {beside} {with_unit(other, row.unit)}"
    return f"{values}, ratio {significant(row.ratio)}"


def of_section(section: Section, record: Record, drawn: Collection[str]) -> Iterator[str]:
    """Title, words, plots, the rows that have a target, and behind a fold all of them."""
    rows = record.rows(*section.parts)
    judged = [row for row in rows if row.verdict]
    yield f"## {section.title}"
    yield wrapped(section.words)
    for name, caption in section.plots.items():
        if name in drawn:
            yield f"![{section.title}](figures/{name}.png)"
            yield f"*{caption}*"
    if judged:
        yield markdown(judged)
    if len(judged) < len(rows):
        yield f"<details><summary>All {len(rows)} figures</summary>"
        yield markdown(rows)
        yield "</details>"


def markdown(rows: Sequence[Row]) -> str:
    """A table of rows; columns that none of them fills are left out."""
    lines = [HEADER, *map(cells, rows)]
    columns = [column for column in zip(*lines, strict=True) if any(column[1:])]
    head, *body = zip(*columns, strict=True)
    rule = tuple("---:" if name in ("ours", "peer", "floor", "ratio") else "---" for name in head)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *body))


def cells(row: Row) -> tuple[str, ...]:
    """A row as the table has it."""
    values = (with_unit(value, row.unit) for value in (row.value, row.peer, row.floor))
    verdict = f"**{row.verdict}**" if row.verdict == "NOT MET" else row.verdict
    return (row.figure, *values, significant(row.ratio), row.target, verdict)


def with_unit(value: float | None, unit: str) -> str:
    """Three significant digits and the unit; nothing for None."""
    return f"{significant(value)} {unit}".strip() if value is not None else ""
