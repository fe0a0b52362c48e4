"""python -m benchmarks.report_scale [--save]: a report on up to a thousand runs of 200 steps, time and memory."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.table import Row, printed, saved
from harness.cli.parser import OneLineParser, run_command

ROOT = Path(__file__).resolve().parents[1]
RUNS, STEPS, EVERY, ARMS, PROMPTS = (250, 500, 1000), 200, 20, 10, 128
MODEL = ROOT / "tests" / "reference" / "fipo"  # a real run, whose lines and environment are multiplied
DRAW = """
import resource, sys
from analysis.__main__ import main
main(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def main(arguments: list[str]) -> None:
    """Print the table, and keep it where asked."""
    parser = OneLineParser(
        prog="python -m benchmarks.report_scale", allow_abbrev=False, description="Reports at scale."
    )
    parser.add_argument("--runs", type=int, nargs="+", default=list(RUNS), help="sizes of the studies")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    options = parser.parse_args(arguments)
    found = rows(options.runs)
    print(printed(found))
    if options.save:
        print(f"saved: {saved(found, 'cpu', 'report-scale')}")


def rows(sizes: list[int]) -> list[Row]:
    """For each size the seconds of `analysis report` and its peak memory; how time grows with size."""
    found, seconds = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            study = write_study(Path(folder) / f"runs{size}", size)
            seconds[size], peak = drawn(study, Path(folder) / f"report{size}")
            is_largest = size == max(sizes)
            lines = size * STEPS
            most = 60.0 if is_largest else None
            found.append(Row(f"report on {size:,} runs, {lines:,} lines, cold", seconds[size], "s", at_most=most))
            found.append(Row(f"its peak memory, {size:,} runs", peak, "MiB", at_most=2048.0 if is_largest else None))
    small, large = min(sizes), max(sizes)
    if large > small:
        growth = np.log(seconds[large] / seconds[small]) / np.log(large / small)
        found.append(Row("exponent of time in lines", float(growth), "", at_most=1.1))
    return found


def drawn(study: Path, output: Path) -> tuple[float, float]:
    """Seconds and peak resident MiB of a report in a process of its own."""
    started = time.perf_counter()
    command = [sys.executable, "-c", DRAW, "report", str(study), "--output_dir", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    peak = next(line for line in done.stdout.splitlines() if line.startswith("peak "))
    return time.perf_counter() - started, int(peak.split()[1]) / 1024


def write_study(folder: Path, runs: int) -> Path:
    """A study of ARMS arms of the real run's form, with noise in every number."""
    rng = np.random.default_rng(0)
    lines = [json.loads(line) for line in (MODEL / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    arms = [
        {
            "name": f"arm{number}",
            "loss_type": "fipo",
            "control": "none",
            "seeds": list(range(runs // ARMS)),
            "settings": {},
        }
        for number in range(ARMS)
    ]
    for arm in arms:
        for seed in range(runs // ARMS):
            write_run(folder / "runs" / f"{arm['name']}-seed{seed}", lines, rng)
    described = {"schema_version": 1, "family": "ours", "preset": "demo", "arms": arms, "differences": []}
    (folder / "study.json").write_text(json.dumps(described), encoding="utf-8")
    return folder


def write_run(run: Path, lines: list[dict[str, float]], rng: np.random.Generator) -> None:
    """A finished run of STEPS steps."""
    (run / "evals").mkdir(parents=True)
    for name in ("config.json", "environment.json", "status.json"):
        (run / name).write_bytes((MODEL / name).read_bytes())
    noise = rng.lognormal(0.0, 0.05, (STEPS, len(lines[0])))
    with (run / "metrics.jsonl").open("w", encoding="utf-8") as file:
        for step in range(STEPS):
            line = lines[step % len(lines)]
            row = {
                key: value * factor if isinstance(value, float) else value
                for (key, value), factor in zip(line.items(), noise[step], strict=True)
            }
            grown = {key: 1000 * (step + 1) for key in line if key.startswith("ledger/")}
            row |= {**grown, "step": step, "time/elapsed_s": float(step + 1)}
            file.write(json.dumps(row) + "\n")
    for step in range(0, STEPS + 1, EVERY):
        samples = 8 if step > STEPS - 3 * EVERY else 2
        count = PROMPTS * samples
        answers = {
            "step": np.full(count, step, np.int32),
            "prompt_id": np.repeat([f"prompt{number:05d}" for number in range(PROMPTS)], samples),
            "sample": np.tile(np.arange(samples, dtype=np.int32), PROMPTS),
            "correct": rng.random(count) < 0.3 + 0.5 * step / STEPS,
            "response_tokens": rng.integers(10, 72, count, dtype=np.int32),
            "truncated": rng.random(count) < 0.01,
        }
        pd.DataFrame(answers).to_parquet(run / "evals" / f"step_{step:06d}.parquet")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], needs=("analysis", "harness")))
