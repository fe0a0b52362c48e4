"""docs/speed.md from a record of `make bench`. The same record gives the same bytes."""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import fill
from typing import Any

from benchmarks.frame import Record, Row, significant, table

SECTIONS = {
    "step": (
        "A training step beside TRL",
        "The real training loop beside TRL's `GRPOTrainer`: the same random weights, prompts, batch and number of "
        "updates, each in a process of its own on one thread, steps in turn. Trained tokens per CPU second, medians. "
        "The limit is what the needed arithmetic allows at the rate of the machine's best product of float32 matrices.",
    ),
    "sampling": (
        "Sampling beside transformers' generate",
        "Tokens per CPU second on one thread, medians of calls in turn; `generate` with the better of its static and "
        "its dynamic cache, without torch.compile. It returns tokens alone, ours their log-probabilities and entropies "
        "too.",
    ),
    "losses": (
        "Losses beside published code",
        "Minima of calls in turn. The chunked matrix is the FIPO paper's algorithm, written here; ms-swift's own "
        "method, which earlier records have, takes about the same time. The limit is a streaming copy of the "
        "log-ratios.",
    ),
    "logprobs": (
        "Log-probabilities and entropy",
        "Forward and backward with the output head of Qwen2.5-0.5B, beside the whole matrix of logits, each in a "
        "process of its own.",
    ),
    "gpu": (
        "On a GPU",
        "Models of random weights in bfloat16. The limit is what the needed arithmetic allows at the rate of matrix "
        "products that was measured in the same run.",
    ),
}


def page(record: Record) -> str:
    """The whole page; a part that was not measured has no section."""
    judged = [row for row in record.rows if row.verdict]
    missed = sum(row.verdict != "met" for row in judged)
    blocks = ["# Speed", wrapped(measured(record)), f"{missed} of {len(judged)} targets are missed."]
    for part, (title, words) in SECTIONS.items():
        if record.parts.get(part):
            blocks += [f"## {title}", wrapped(words), *tables(record.parts[part])]
    return "\n\n".join(blocks) + "\n"


def wrapped(words: str) -> str:
    """The words in lines of at most 120 characters."""
    return fill(words, 120, break_long_words=False, break_on_hyphens=False)


def measured(record: Record) -> str:
    """What was measured, where, when and how; what the machine did not have is left out."""
    about: Mapping[str, Any] = record.machine
    names = {"python": "Python", "torch": "torch", "cuda": "CUDA", "transformers": "transformers", "trl": "TRL"}
    versions = ", ".join(f"{name} {about[key]}" for key, name in names.items() if about.get(key))
    return (
        f"`make bench` on {str(about['measured_at']).replace('T', ' at ')}, commit `{about['commit']}`: "
        f"{about['device']} ({about['cpu_capability']}), {about['cores']} cores, {about['threads']} threads where one "
        f"is not said; {versions}. What changed after that commit is not in these figures. {about.get('note', '')} "
        "Above 1 times the peer, ours is better; a share of the limit is at best 1. Targets bound the ratio. Written "
        f"from benchmarks/results/{record.name}."
    )


def tables(rows: Sequence[Row]) -> Iterator[str]:
    """The rows, and apart from them the phases of training steps."""
    yield table([row for row in rows if row.unit != "%"])
    phases: dict[str, dict[str, str]] = {}
    for row in rows:
        if row.unit == "%":
            form, _, phase = row.figure.partition(": ")
            needed = "" if row.limit is None else f" ({significant(row.limit)})"
            phases.setdefault(form, {})[phase] = significant(row.ours) + needed
    if phases:
        yield "Where a step's CPU time goes, in %; in brackets what the phase's arithmetic would take at the limit."
        heads = list(next(iter(phases.values())))
        lines = [["model", *heads], ["---"] * (1 + len(heads))]
        lines += [[form, *cells.values()] for form, cells in phases.items()]
        yield "\n".join(f"| {' | '.join(line)} |" for line in lines)
