"""Small runs, and what their folders hold."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from harness.algorithm.metrics import Metrics
from harness.cli.run_lines import step_printer
from harness.config.schema import Config
from harness.files import sha256_of
from harness.loop import train
from harness.run.record import RunFolder


def ignore(_metrics: Metrics) -> None:
    """Shows nothing of a step."""


def trained(config: Config, path: Path) -> RunFolder:
    """The folder of a finished run, each step of which was said as the command says it."""
    return train(config, path, step_printer(config))


def read_json(path: Path) -> Any:
    """A file's content."""
    return json.loads(path.read_text(encoding="utf-8"))


def metrics(folder: RunFolder) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def timeless(folder: RunFolder) -> list[dict[str, Any]]:
    """The same without what may differ between two runs of one config."""
    return [{key: value for key, value in line.items() if not key.startswith("time/")} for line in metrics(folder)]


def rows(folder: RunFolder, kind: str) -> list[dict[str, Any]]:
    """All rows of the folder's rollouts, tokens or evals."""
    return [row for path in sorted((folder.path / kind).iterdir()) for row in pq.read_table(path).to_pylist()]


def record_again(run: Path) -> None:
    """Make the recorded hashes those of the files as they now are."""
    lines = (run / "records.sha256").read_text(encoding="utf-8").splitlines()
    names = [line.partition("  ")[2] for line in lines]
    (run / "records.sha256").write_text(
        "".join(f"{sha256_of(run / name)}  {name}\n" for name in names), encoding="utf-8"
    )
    final = run / "checkpoints" / "final"
    manifest = {name: sha256_of(final / name) for name in read_json(final / "manifest.json")}
    (final / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def weights(folder: RunFolder) -> bytes:
    """The final weights, bit for bit."""
    return (folder.path / "checkpoints" / "final" / "model.safetensors").read_bytes()
