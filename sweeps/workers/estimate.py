"""How long runs take and how much they write: measured from runs on this machine and kept, else from a short probe."""

import hashlib
import json
import platform
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import (
    CHECKPOINTS,
    Config,
    HarnessError,
    UsageError,
    cache_folder,
    evaluation_answers,
    flatten,
    resolve,
    tree_of,
    write_json,
)
from sweeps.study.folder import read_json, read_lines
from sweeps.workers.sessions import run_to_end

# Measured with the demo preset on 2 cores of an AMD EPYC, one thread a run. Only a first guess: as soon as runs report
# steps, the time left is computed from them.
TINY_S_PER_1000_RESPONSES, TINY_START_S = 1.9, 6.0
PROBE_STEPS = 2
DECISIVE = ("model", "rollout")  # sections that decide how long a step takes; and of the others:
DECISIVE_SETTINGS = ("task", "threads", "minibatches", "epochs", "micro_batch_size", "sequence_filter")
PHASES = ("rollout", "logprobs", "update", "record")
CHECKPOINTS_KEPT = 4  # initial, final, and the newest two


@dataclass(frozen=True)
class Speed:
    """What a run of these sizes takes on this machine."""

    start_s: float  # imports and loading, before the first step
    step_s: float
    answer_s: float  # per answer of an evaluation
    step_tokens: float  # generated per step
    step_bytes: float  # recorded per step
    answer_bytes: float
    checkpoint_bytes: float
    source: str

    def seconds(self, config: Config) -> float:
        """A run from its start to its end."""
        return self.start_s + self.step_s * self.steps(config) + self.answer_s * evaluation_answers(config)

    def tokens(self, config: Config) -> float:
        """Tokens that a run generates."""
        return self.step_tokens * self.steps(config)

    def bytes(self, config: Config) -> float:
        """What a run's folder takes."""
        records = self.step_bytes * self.steps(config) + self.answer_bytes * evaluation_answers(config)
        return CHECKPOINTS_KEPT * self.checkpoint_bytes + records

    def steps(self, config: Config) -> float:
        """Steps until the token budget is spent, or all."""
        budget, steps = config.run.token_budget, config.run.steps
        return steps if budget is None else min(steps, budget / self.step_tokens + 0.5)


def guessed_seconds(config: Config) -> float | None:
    """About how long a run of the tiny model takes before any was measured; None for another model."""
    if config.model.model != "tiny":
        return None
    rounds = (1 + config.rollout.max_sampling_rounds) / 2 if config.rollout.dynamic_sampling else 1
    responses = config.run.steps * config.responses_per_step * rounds + 0.4 * evaluation_answers(config)
    return TINY_START_S + TINY_S_PER_1000_RESPONSES * responses / 1000


def speed_of(folder: Path, config: Config, wall_s: float, source: str) -> Speed:
    """What a finished run shows; `wall_s`: from the start of its process to its end."""
    lines = read_lines(folder / "metrics.jsonl")
    spent = {name: sum(line[f"time/{name}_s"] for line in lines) for name in (*PHASES, "evaluation")}
    answers = evaluation_answers(config)
    first = config.evaluation.eval_prompts * config.evaluation.eval_samples
    answer_s = spent["evaluation"] / max(1, answers - first)  # the one before the first step is in no phase
    steps = len(lines)
    return Speed(
        start_s=max(0.0, wall_s - sum(spent.values()) - first * answer_s),
        step_s=sum(spent[name] for name in PHASES) / steps,
        answer_s=answer_s,
        step_tokens=lines[-1]["ledger/generated_tokens"] / steps,
        step_bytes=(size_of(folder / "rollouts") + size_of(folder / "tokens")) / steps,
        answer_bytes=size_of(folder / "evals") / answers,
        checkpoint_bytes=size_of(folder / CHECKPOINTS / "final"),
        source=source,
    )


def size_of(folder: Path) -> int:
    """Bytes of all files in the folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def cached(config: Config) -> Speed | None:
    """What runs of these sizes took on this machine, if any were measured."""
    with suppress(UsageError, TypeError):  # a damaged file can be made again
        return Speed(**read_json(cache_file(config)))
    return None


def remember(config: Config, speed: Speed) -> None:
    """Keep what was measured for later plans, where that can be written."""
    with suppress(OSError):
        cache_file(config).parent.mkdir(parents=True, exist_ok=True)
        write_json(cache_file(config), asdict(speed))


def cache_file(config: Config) -> Path:
    """Where the speed of runs of these sizes is kept."""
    return cache_folder() / "speeds" / f"{key_of(config)}.json"


def key_of(config: Config) -> str:
    """Hash of what decides how long a step takes: sizes, and the machine."""
    tree = tree_of(config)
    decisive = {name: tree[name] for name in DECISIVE}
    flat = {name: value for name, value in flatten(tree).items() if name in DECISIVE_SETTINGS}
    machine = (platform.node(), platform.machine(), platform.processor())
    return hashlib.sha256(json.dumps([decisive, flat, machine], sort_keys=True).encode()).hexdigest()[:16]


def probed(config: Config) -> Speed:
    """A run of a few steps, measured and thrown away. Raises UsageError where its settings cannot be run."""
    changes = {"steps": PROBE_STEPS, "eval_every": PROBE_STEPS, "token_budget": None, "output_dir": None}
    short = resolve(flatten(tree_of(config)) | changes)
    with tempfile.TemporaryDirectory() as scratch:
        folder, file = Path(scratch) / "probe", Path(scratch) / "probe.json"
        write_json(file, tree_of(short))
        finish(["prepare", "--config", str(file)], short)  # a warm start is no part of a run
        begun = time.monotonic()
        finish(["train", "--config", str(file), "--output_dir", str(folder)], short)
        speed = speed_of(folder, short, time.monotonic() - begun, f"a probe of {PROBE_STEPS} steps")
    remember(config, speed)
    return speed


def finish(arguments: list[str], config: Config) -> None:
    """Run the harness command to its end. Raises UsageError or HarnessError with its last words where it fails."""
    said: list[str] = []
    with tempfile.NamedTemporaryFile() as log:
        if code := run_to_end(arguments, config.run.threads, Path(log.name), said.append):
            error = UsageError if code == UsageError.exit_code else HarnessError
            raise error(f"the probe of {PROBE_STEPS} steps failed: {said[-1] if said else 'without a word'}")
