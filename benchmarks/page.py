"""python -m benchmarks.page [--folder DIR]: docs/speed.md and its figure from the newest record of `make bench`.

The same record gives the same bytes.
"""

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from benchmarks.frame import ROOT, Record, Row, newest, significant, table
from harness.cli.parser import OneLineParser, run_command

FIGURE = "speed_peers"
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
        "Minima of calls in turn. The chunked matrix is the FIPO paper's algorithm, written here; ms-swift's is the "
        "installed method itself. The limit is a streaming copy of the log-ratios.",
    ),
    "logprobs": (
        "Log-probabilities and entropy",
        "Forward and backward with the output head of Qwen2.5-0.5B, beside the whole matrix of logits, each in a "
        "process of its own.",
    ),
    "reports": ("Reports", "`python -m analysis report` on a made-up study, wall seconds from the command to its end."),
    "gpu": (
        "On a GPU",
        "Models of random weights in bfloat16. The limit is what the needed arithmetic allows at the rate of matrix "
        "products that was measured in the same run.",
    ),
}
OURS, TARGET = "#0072B2", "#D55E00"  # of Okabe and Ito (2008)


def main(arguments: list[str]) -> None:
    """Write the page and its figure, and say where."""
    parser = OneLineParser(prog="python -m benchmarks.page", allow_abbrev=False, description="A page from a record.")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs", help="where speed.md and figures/ are")
    options = parser.parse_args(arguments)
    record = newest()
    (options.folder / "figures").mkdir(parents=True, exist_ok=True)
    (options.folder / "figures" / f"{FIGURE}.png").write_bytes(drawn(record))
    (options.folder / "speed.md").write_text(page(record), encoding="utf-8")
    print(f"written: {options.folder / 'speed.md'}")


def page(record: Record) -> str:
    """The whole page; a part that was not measured has no section."""
    judged = [row for row in record.rows if row.verdict]
    missed = sum(row.verdict != "met" for row in judged)
    blocks = ["# Speed", wrapped(measured(record)), f"{missed} of {len(judged)} targets are missed."]
    blocks += [f"![Times the peer's speed; the mark is the target](figures/{FIGURE}.png)"] if peers(record) else []
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
        "Above 1 times the peer, ours is better; a share of the limit is at best 1. Targets bound the ratio, or "
        f"without a peer the figure. Written by `python -m benchmarks.page` from benchmarks/results/{record.name}."
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


def peers(record: Record) -> list[Row]:
    """The speeds that have a peer."""
    return [row for row in record.rows if row.ratio and not row.is_cost]


def drawn(record: Record) -> bytes:
    """A PNG: a bar for each speed, as many times as long as the peer's, and a mark for its target."""
    rows = peers(record)
    with rc_context({"figure.dpi": 150, "font.size": 8}):
        figure = Figure((6.4, 0.8 + 0.28 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        for place, row in enumerate(rows):
            axes.barh(place, row.ratio or 0.0, height=0.6, color=OURS)
            axes.text(0.05, place, significant(row.ratio), va="center", color="white")
            if row.target:
                axes.plot([row.target] * 2, [place - 0.38, place + 0.38], color=TARGET, linewidth=2)
        axes.axvline(1.0, color="#333333", linewidth=0.8, linestyle="--")
        axes.set_yticks(range(len(rows)), [row.figure for row in rows])
        axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel="tokens per CPU second, times the peer's")
        image = io.BytesIO()
        figure.savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], needs=("harness",)))
