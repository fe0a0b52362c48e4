"""python -m benchmarks.search [quality] [slots] [--folder DIR]: what the search is worth, and what a second slot is.

quality: on the easy task (keyed chain sum, rates from 1e-5 to 1e-2, of which the highest collapse) the winner of
the search against that of a grid of 8 rates x 5 seeds, each run again on five fresh seeds.
slots: trials an hour of two slots against one, the same trials, one after the other in one run.

Kept out of `make bench`: it takes most of an hour on two cores. Interrupted, it goes on where it was.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean, stdev

import pyarrow.parquet as pq

from benchmarks.table import Row, printed, saved

LOW, HIGH, RATES, SEEDS = 1e-5, 1e-2, 8, 5
SEARCH_TRIALS, SEARCH_SEEDS = 9, 2  # less than half of the grid's runs: the rates it turns to write longer answers
EASY = {
    "task": "keyed_chain_sum",
    "steps": "40",
    "prompts_per_step": "16",
    "minibatches": "4",
    "warmup_steps": "0",
    "eval_every": "10",
}
SLOT_TRIALS = 6


def main(arguments: list[str]) -> None:
    """Run the parts named, or both, and save the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=["quality", "slots", []], help="(default: both)")
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-search"), help="(default: runs/bench-search)")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    if "slots" in (options.parts or ["slots"]):
        rows += slots(options.folder)
    if "quality" in (options.parts or ["quality"]):
        rows += quality(options.folder)
    print(f"\n{printed(rows)}")
    if options.save:
        print(f"saved: {saved(rows, 'cpu', 'search')}")


def quality(folder: Path) -> list[Row]:
    """The search's winner against the grid's."""
    rates = [LOW * (HIGH / LOW) ** (place / (RATES - 1)) for place in range(RATES)]
    grid = space(folder / "grid.toml", f"choice = {json.dumps([float(f'{rate:.3g}') for rate in rates])}")
    wide = space(folder / "wide.toml", f"log = [{LOW}, {HIGH}]")
    sizes = ("--trials", str(SEARCH_TRIALS), "--seeds", str(SEARCH_SEEDS))
    searched = search(folder / "search", wide, "--sampler", "tpe", *sizes)
    listed = search(folder / "grid", grid, "--sampler", "grid", "--seeds", str(SEEDS))
    ours, theirs = winner(folder / "search"), winner(folder / "grid")
    difference = fmean(ours) - fmean(theirs)
    error = math.sqrt((stdev(ours) ** 2 + stdev(theirs) ** 2) / len(ours))
    return [
        Row("accuracy of the grid's winner on fresh seeds", fmean(theirs), ""),
        Row("accuracy of the search's winner on fresh seeds", fmean(ours), "", at_least=fmean(theirs) - 0.02),
        Row("search - grid", difference, ""),
        Row("its standard error over seeds", error, ""),
        Row("learning rate of the grid's winner, 1e-4", 1e4 * best_rate(folder / "grid"), ""),
        Row("learning rate of the search's winner, 1e-4", 1e4 * best_rate(folder / "search"), ""),
        Row("generated tokens of the search / of the grid", searched[0] / listed[0], "", at_most=0.5),
        Row("seconds of its runs / of the grid's", searched[1] / listed[1], ""),
        Row("runs of the search / of the grid", SEARCH_TRIALS * SEARCH_SEEDS / (RATES * SEEDS), "", at_most=0.5),
    ]


def slots(folder: Path) -> list[Row]:
    """Trials an hour of two slots against one."""
    wide = space(folder / "wide.toml", f"log = [{LOW}, {HIGH}]")
    taken = []
    for count in (1, 2):
        study = folder / f"slots-{count}"
        shutil.rmtree(study, ignore_errors=True)
        begun = time.monotonic()
        sizes = ("--trials", str(SLOT_TRIALS), "--seeds", "1", "--report_seeds", "0", "--slots", str(count))
        search(study, wide, "--sampler", "random", *sizes)
        taken.append(time.monotonic() - begun)
    return [
        Row("trials an hour of one slot", 3600 * SLOT_TRIALS / taken[0], ""),
        Row("trials an hour of two slots / of one", taken[0] / taken[1], "", at_least=1.8),
    ]


def space(path: Path, learning_rate: str) -> Path:
    """A space of the learning rate alone."""
    path.write_text(f'description = "learning rate"\n[parameters]\nlr = {{ {learning_rate} }}\n', encoding="utf-8")
    return path


def search(study: Path, file: Path, *arguments: str) -> tuple[int, float]:
    """Run the search, or go on with it; tokens that its trials generated, and seconds of their runs."""
    flags = [word for name, value in EASY.items() for word in (f"--{name}", value)]
    command = ["search", "--losses", "dapo", "--space", str(file), "--study", str(study), "--tracking_uri", "none"]
    subprocess.run([sys.executable, "-m", "sweeps", *command, *arguments, *flags], check=True)
    table = pq.read_table(study / "trials.parquet", columns=["generated_tokens", "seconds"]).to_pydict()
    return sum(filter(None, table["generated_tokens"])), sum(filter(None, table["seconds"]))


def winner(study: Path) -> list[float]:
    """Final accuracy of the winner on each fresh seed, over its last three evaluations."""
    runs = sorted((study / "winners" / "runs").iterdir())
    tables = [sorted((run / "evals").glob("*.parquet"))[1:][-3:] for run in runs]  # the first is from before training
    return [fmean(fmean(map(float, pq.read_table(t)["correct"].to_pylist())) for t in each) for each in tables]


def best_rate(study: Path) -> float:
    """The learning rate that won."""
    return float(json.loads((study / "best" / "dapo.json").read_text(encoding="utf-8"))["lr"])


if __name__ == "__main__":
    main(sys.argv[1:])
