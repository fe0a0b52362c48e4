"""Runs of no study: the arms that they form, named by their loss and by the settings in which they differ."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from analysis.records.design import Arm, planted_control
from analysis.records.run_files import named_seed, read_json

Settings = Mapping[tuple[str, str], Any]  # by section and name
APART = ("seed", "output_dir", "loss_type")  # in which runs of one arm differ, and what its name begins with
LOSS = ("loss", "loss_type")


def loose_arms(paths: Mapping[str, Path]) -> dict[str, Arm]:
    """By run its arm, with the run's seed alone.

    Runs of the same settings are seeds of one arm, and where a seed comes twice, of a second one. A run that lies in a
    study keeps the arm that its name says.
    """
    settings = {run: _settings(path) for run, path in paths.items()}
    found, seen = dict[str, Arm](), Counter[tuple[str, int]]()
    for run, own in settings.items():
        arm, seed = named_seed(run)
        loss = str(own.get(LOSS) or arm)
        if seed < 0 or not (paths[run].resolve().parent.parent / "study.json").is_file():
            arm, seed = " ".join([loss, *_differing(own, settings.values())]), int(own.get(("run", "seed")) or 0)
        seen[arm, seed] += 1
        name = f"{arm} #{seen[arm, seed]}" if seen[arm, seed] > 1 else arm
        found[run] = Arm(name, loss, planted_control(own.get(("task", "control"))), (seed,))
    return found


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
