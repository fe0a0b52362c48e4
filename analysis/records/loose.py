"""Runs of no study: the arms that they form, named by their loss and by the settings in which they differ."""

from collections.abc import Collection, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from analysis.records.design import Arm, Plan, Role, plan_of_arms
from analysis.records.run_files import named_seed, read_json

Settings = Mapping[tuple[str, str], Any]  # by section and name
APART = ("seed", "output_dir", "loss_type")  # in which runs of one arm differ, and what its name begins with
LOSS = ("loss", "loss_type")


def loose_plan(paths: Mapping[str, Path]) -> tuple[dict[str, tuple[str, int]], Plan]:
    """By run its arm and seed, and the plan of these arms.

    Runs of the same settings are seeds of one arm, and where a seed comes twice, of a second one. A run that lies in a
    study keeps the arm that its name says.
    """
    settings = {run: _settings(path) for run, path in paths.items()}
    found, losses, planted = dict[str, tuple[str, int]](), dict[str, str](), dict[str, Role]()
    for run, own in settings.items():
        arm, seed = named_seed(run)
        loss = str(own.get(LOSS) or arm)
        if seed < 0 or not (paths[run].resolve().parent.parent / "study.json").is_file():
            arm, seed = " ".join([loss, *_differing(own, settings.values())]), int(own.get(("run", "seed")) or 0)
        names = (arm if again == 1 else f"{arm} #{again}" for again in count(1))
        name = next(name for name in names if (name, seed) not in found.values())
        found[run], losses[name] = (name, seed), loss
        if own.get(("task", "control")) not in (None, "none"):
            planted[name] = Role(planted=True)
    seeds = {name: tuple(seed for arm, seed in found.values() if arm == name) for name in losses}
    return found, plan_of_arms(tuple(Arm(name, loss, seeds[name]) for name, loss in losses.items()), planted)


def _settings(path: Path) -> Settings:
    config = read_json(path / "config.json", versioned=True).get("config")
    sections = config.items() if isinstance(config, dict) else ()
    return {(name, key): value for name, one in sections if isinstance(one, dict) for key, value in one.items()}


def _differing(own: Settings, settings: Collection[Settings]) -> Iterator[str]:
    """The settings in which runs differ; those of the loss count where they differ between runs of the same loss."""
    for key, value in own.items():
        section, name = key
        beside = [one for one in settings if section != "loss" or one.get(LOSS) == own.get(LOSS)]
        if name not in APART and any(one.get(key) != value for one in beside):
            yield f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
