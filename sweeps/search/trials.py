"""What a trial's runs left, read from their folders."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from harness import flatten, tree_of
from sweeps.study.folder import PlannedRun, evaluation_means, read_json, read_lines
from sweeps.workers.attempts import latest_metrics

ACTED: dict[str, tuple[str, ...]] = {  # by parameter: the metrics that say on which share of trained tokens it acted
    "epsilon": ("loss/clip_fraction_low",),
    "epsilon_high": ("loss/clip_fraction_high",),
    "delta": ("loss/clip_fraction_dual",),
    "fipo_clip_range": ("loss/influence_weight_at_high",),
    "fipo_decay_rate": ("loss/influence_weight_moved",),
    "fipo_safety_threshold": ("loss/safety_fraction",),
}


def is_recorded_otherwise(run: PlannedRun) -> bool:
    """Whether the run's folder, if there is one, records other settings than are asked for."""
    recorded = flatten((read_json(run.folder / "config.json") or {}).get("config", {}))
    asked = flatten(tree_of(run.config))
    return any(name != "output_dir" and recorded.get(name, value) != value for name, value in asked.items())


def trial_facts(runs: Sequence[PlannedRun]) -> dict[str, Any]:
    """Values and records of a trial whose runs have finished: columns of trials.parquet."""
    facts, means = [run_facts(run) for run in runs], ("start_accuracy", "response_tokens", "truncated_share")
    acted = dict.fromkeys(name for one in facts for name in one["acted"])
    return {
        "seeds": [run.seed for run in runs],
        "values": [one["accuracy"] for one in facts],
        **{name: fmean(one[name] for one in facts) for name in means},
        **{name: sum(one[name] for one in facts) for name in ("generated_tokens", "seconds")},
        "acted": {name: fmean(one["acted"][name] for one in facts if name in one["acted"]) for name in acted},
    }


def spent(runs: Sequence[PlannedRun]) -> dict[str, Any]:
    """What a trial without a value has cost: tokens and seconds up to the last line of each run."""
    last = [metrics for run in runs if (metrics := latest_metrics(run.folder))]
    return {
        "generated_tokens": sum(int(line["ledger/generated_tokens"]) for line in last),
        "seconds": sum(float(line["time/elapsed_s"]) for line in last),
    }


def run_facts(run: PlannedRun) -> dict[str, Any]:
    """A finished run's accuracy and what it spent."""
    tables = sorted((run.folder / "evals").glob("step_*.parquet"))
    trained = tables[1:] or tables  # the first is from before training
    last = [evaluation_means(table) for table in trained[-run.config.evaluation.final_evaluations :]]
    lines = read_lines(run.folder / "metrics.jsonl")
    return {
        "accuracy": fmean(one["correct"] for one in last),
        "start_accuracy": evaluation_means(tables[0])["correct"],
        "response_tokens": fmean(one["response_tokens"] for one in last),
        "truncated_share": fmean(one["truncated"] for one in last),
        "generated_tokens": int(lines[-1]["ledger/generated_tokens"]),
        "seconds": float(lines[-1]["time/elapsed_s"]),
        "acted": acted(lines, two_sided=not run.config.loss.fipo_clip_high_only),
    }


def acted(lines: Sequence[Mapping[str, Any]], two_sided: bool) -> dict[str, float]:
    """The share of trained tokens, over all steps, on which each parameter acted; none that the loss does not have."""
    tokens = [line["ledger/trained_tokens"] for line in lines]
    trained = [later - earlier for earlier, later in zip([0, *tokens], tokens, strict=False)]
    shares = {}
    for parameter, metrics in ACTED.items():
        if parameter == "fipo_clip_range" and two_sided:  # else the lower bound is 1, whatever the range
            metrics = (*metrics, "loss/influence_weight_at_low")
        if metrics[0] in lines[0] and sum(trained):
            total = sum(n * (line[name] or 0.0) for n, line in zip(trained, lines, strict=True) for name in metrics)
            shares[parameter] = total / sum(trained)
    return shares
