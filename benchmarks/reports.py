"""How long `python -m analysis report` takes on a study of many runs, in a process of its own."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.frame import ROOT, Row

SIZES = {23: 6.0, 1000: 30.0}  # runs: seconds at most
MODEL = ROOT / "tests" / "reference" / "fipo"  # a real run, whose settings and environment all have
STEPS, EVERY, ARMS, PROMPTS = 200, 20, 10, 128


def rows(sizes: dict[int, float] | None = None) -> Iterator[Row]:
    """Wall seconds from the command to its end, a row a size."""
    for runs, most in (sizes or SIZES).items():
        print(f"a report on {runs:,} runs ...", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            write_study(Path(folder) / "study", runs)
            words = ["report", f"{folder}/study", "--output_dir", f"{folder}/report"]
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-m", "analysis", *words], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
            yield Row(
                f"report on {runs:,} runs of {STEPS} steps", time.perf_counter() - begun, "s", target=most, is_cost=True
            )


def write_study(folder: Path, runs: int) -> None:
    """A study of ARMS arms, runs of the real one's form with noise in every number."""
    rng = np.random.default_rng(0)
    lines = [json.loads(line) for line in (MODEL / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    arms = []
    for number in range(min(ARMS, runs)):
        seeds = [seed for seed, _ in enumerate(range(number, runs, ARMS))]
        arms.append({"name": f"arm{number}", "loss_type": "fipo", "control": "none", "seeds": seeds, "settings": {}})
        for seed in seeds:
            write_run(folder / "runs" / f"arm{number}-seed{seed}", lines, rng)
    described = {"schema_version": 1, "family": "ours", "preset": "demo", "arms": arms, "differences": []}
    (folder / "study.json").write_text(json.dumps(described), encoding="utf-8")


def write_run(run: Path, lines: list[dict[str, float]], rng: np.random.Generator) -> None:
    """A finished run of STEPS steps."""
    (run / "evals").mkdir(parents=True)
    for name in ("config.json", "environment.json", "status.json"):
        (run / name).write_bytes((MODEL / name).read_bytes())
    noise = rng.lognormal(0.0, 0.05, STEPS)
    with (run / "metrics.jsonl").open("w", encoding="utf-8") as file:
        for step in range(STEPS):
            line = {
                key: value * noise[step] if isinstance(value, float) else value
                for key, value in lines[step % len(lines)].items()
            }
            line |= {key: 1000 * (step + 1) for key in line if key.startswith("ledger/")}
            file.write(json.dumps(line | {"step": step, "time/elapsed_s": float(step + 1)}) + "\n")
    for step in range(0, STEPS + 1, EVERY):
        count = PROMPTS * (8 if step > STEPS - 3 * EVERY else 2)
        answers = {
            "step": np.full(count, step, np.int32),
            "prompt_id": [f"prompt{number % PROMPTS:05d}" for number in range(count)],
            "sample": np.arange(count, dtype=np.int32) // PROMPTS,
            "correct": rng.random(count) < 0.3 + 0.5 * step / STEPS,
            "response_tokens": rng.integers(10, 72, count, dtype=np.int32),
            "truncated": rng.random(count) < 0.01,
        }
        pd.DataFrame(answers).to_parquet(run / "evals" / f"step_{step:06d}.parquet")
