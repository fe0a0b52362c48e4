"""Forks: every arm continues from the same states of recorded runs, each under the same prompts and sampling noise.

Fork n continues from state n mod S under noise n div S, where S is the number of states. Noise 0 is the recorded run's
own seed, so a fork with the run's own loss and settings repeats the run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import Config, UsageError, differences, flatten, own_code_hashes, read_history, resolve, tree_of
from sweeps.study.arms import PER_RUN, Arm, Family, scaffold_settings
from sweeps.study.folder import other_study, read_json

OF_THE_LOSS = "loss_type", "averaging", "control", "placebo"  # the arms', whatever the recorded run had
NOISE_SEEDS = 1000  # between the seeds of two noises, so that they are no other recorded run's


@dataclass(frozen=True)
class State:
    """A recorded run after `step` steps; `place` among the study's states."""

    run: Path
    step: int
    config: Config
    place: int

    def folder(self, study: Path) -> Path:
        """Where the study keeps it."""
        return study / "states" / f"state_{self.place}"


def states_of(runs: Sequence[Path], steps: str) -> list[State]:
    """The states of all runs at the steps in a text like 5,10. Raises UsageError where one cannot be had."""
    if not all(step.isdecimal() for step in steps.split(",")):
        raise UsageError(f"--at: expected steps like 5,10,15, got {steps!r}")
    at, found = list(dict.fromkeys(map(int, steps.split(",")))), list[State]()
    for run in dict.fromkeys(run.resolve() for run in runs):
        history = read_history(run)
        code = own_code_hashes(history.config)
        if any(history.environment.get(name) != sha256 for name, sha256 in code.items()):
            raise UsageError(f"{run}: expected the files of --task and --reward as recorded, got others: restore them")
        for step in at:
            history.check_reachable(step)
            found.append(State(run, step, history.config, len(found)))
    return found


def forked_arms(
    family: Family, forks: Mapping[str, int], states: Sequence[State], flags: Mapping[str, Any], study: Path
) -> list[Arm]:
    """The named arms, each with its number of forks: its settings and the flags over those of the recorded runs."""
    for flag in ("model", "model_seed", "start_from"):
        if flag in flags:
            raise UsageError(f"--{flag} is set by the recorded run: leave it out")
    arms = []
    for name, count in forks.items():
        settings = scaffold_settings(family, name, flags)
        own = {**flags, **settings}
        arms.append(Arm(name, settings, {n: config_of(states, n, own, study) for n in range(count)}))
    for arm in arms:
        if found := differences({f"fork {n}": config for n, config in arm.configs.items()}, ignored=PER_RUN):
            values = ", ".join(f"{fork} {value}" for fork, value in found[0].values.items())
            raise UsageError(f"expected runs with the same --{found[0].field}, got {values}: fork them apart")
    return arms


def config_of(states: Sequence[State], n: int, own: Mapping[str, Any], study: Path) -> Config:
    """The settings of fork n: the recorded run's without its loss, and `own` over them."""
    state, noise = states[n % len(states)], n // len(states)
    recorded = {name: value for name, value in flatten(tree_of(state.config)).items() if name not in OF_THE_LOSS}
    place = {"seed": state.config.run.seed + NOISE_SEEDS * noise, "start_from": str(state.folder(study).resolve())}
    return resolve({**recorded, "model_seed": 0, "output_dir": None, **own, **place})


def places_of(states: Sequence[State]) -> list[dict[str, Any]]:
    """The states as study.json lists them."""
    return [{"run": str(state.run), "step": state.step} for state in states]


def fork_description(states: Sequence[State], arms: Sequence[Arm]) -> dict[str, Any]:
    """What study.json says of the forks."""
    return {"states": places_of(states), "steps": arms[0].any_config.run.steps}


def check_same_states(study: Path, states: Sequence[State]) -> None:
    """Raise UsageError where the folder holds a study of other states, or none of forks."""
    recorded = read_json(study / "study.json")
    if recorded is not None and recorded.get("fork", {}).get("states", []) != places_of(states):
        raise other_study(study, "it was made by `sweeps fork`, or forks other runs or steps")
