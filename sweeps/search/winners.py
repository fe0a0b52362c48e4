"""The best settings of each loss, run again on fresh seeds and on the prompts that results are reported on.

The best of many trials is biased upwards: it was chosen for its value. What is compared are these runs.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from harness import read_config, resolve
from sweeps.comparison import Comparison, compare
from sweeps.search.spec import Search
from sweeps.search.tables import Row, best_rows
from sweeps.study.arms import ABOUT, Arm, Family, check_differences, differences_between, load_family, settings_of
from sweeps.study.claims import FILE
from sweeps.study.folder import identity, is_held, locked, read_json, set_aside
from sweeps.workers.slots import Slot

LOCK = ".lock-winners"


def run_winners(search: Search, rows: Sequence[Row], slots: Sequence[Slot], console: Console) -> None:
    """Run the best settings of each loss on the reporting seeds, as a comparison in STUDY/winners."""
    best = {loss: row["settings"] for loss, row in best_rows(rows).items()}
    if not best or is_held(search.study / LOCK):
        words = "another host runs them" if best else "no trial found feasible settings: there is nothing to run again"
        console.print(f"winners: {words}")
        return
    arms, study = arms_of(search, best, search.report_seeds), search.study
    family = tuned_family(search, arms)
    console.print(f"winners: {', '.join(arm.name for arm in arms)} on {len(search.report_seeds)} fresh seeds")
    with locked(study, LOCK):
        set_aside_others(study / "winners", arms)
        (study / "winners").mkdir(exist_ok=True)
        claims = (read_json(study / "study.json") or {}).get("claims")  # fixed before the first trial
        if claims:
            shutil.copyfile(study / FILE, study / "winners" / FILE)
        compare(Comparison(study / "winners", family, search.preset, arms, claims), slots)


def arms_of(search: Search, best: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]) -> list[Arm]:
    """The losses with these values of what is searched, and the controls that are like one of them."""
    arms, family = [arm_of(search, loss, values, seeds) for loss, values in best.items()], load_family(search.family)
    for arm in list(arms):
        theirs = settings_of(family, arm.name).items()
        for control in (name for name, loss in search.controls.items() if loss == arm.name):
            own = dict(settings_of(family, control).items() - theirs)
            settings = {**search.settings[arm.name], **best[arm.name], **own}
            configs = {seed: resolve({**settings, "seed": seed}, search.preset) for seed in seeds}
            arms.append(Arm(control, {**arm.settings, **own}, configs))
    return arms


def arm_of(search: Search, loss: str, values: Mapping[str, Any], seeds: Sequence[int]) -> Arm:
    """The loss with these values of what is searched; its own settings are those that not every loss has alike."""
    settings = {**search.settings[loss], **values}
    shared = set.intersection(*({(n, repr(v)) for n, v in one.items()} for one in search.settings.values()))
    own = {
        name: value
        for name, value in settings.items()
        if name in values or len(search.losses) == 1 or (name, repr(value)) not in shared
    }
    return Arm(loss, own, {seed: resolve({**settings, "seed": seed}, search.preset) for seed in seeds})


def tuned_family(search: Search, arms: Sequence[Arm]) -> Family:
    """What may differ between winners: what may between the family's arms, and what was searched.

    Raises UsageError where these arms differ in more.
    """
    family = load_family(search.family)
    searched = {name for space in search.spaces.values() for name in space.parameters}
    tables = {arm.name: {**arm.settings, **told(family, arm.name, arms)} for arm in arms}
    tuned = Family(
        name="tuned",
        description=f"the best settings of each loss out of {search.trials} trials; what was searched may differ",
        allowed=family.allowed | searched,
        confounds=family.confounds,
        arms={name: table for name, table in tables.items() if name not in family.controls},
        controls={name: table for name, table in tables.items() if name in family.controls},
    )
    check_differences(differences_between(arms, tuned), tuned)
    return tuned


def told(family: Family, name: str, arms: Sequence[Arm]) -> dict[str, Any]:
    """What the family says of an arm besides its settings, as far as it concerns these arms."""
    about = {field: value for field, value in family.about(name).items() if field in ABOUT and value is not None}
    if about.get("against") not in {arm.name for arm in arms}:
        about.pop("against", None)
    return about


def check_comparable(search: Search) -> None:
    """Raise UsageError where the losses differ in what their family does not admit: before anything is searched."""
    tuned_family(search, arms_of(search, {loss: next(space.corners()) for loss, space in search.spaces.items()}, [0]))


def set_aside_others(study: Path, arms: Sequence[Arm]) -> None:
    """Move winners of an earlier, shorter search out of the way, where other settings have won since."""
    known = {arm.name: identity(arm.any_config) for arm in arms}
    for arm in (read_json(study / "study.json") or {"arms": []})["arms"]:
        file = study / "configs" / f"{arm['name']}-seed{arm['seeds'][0]}.json"
        if known.get(arm["name"]) != identity(read_config(file)):
            set_aside(study, study.parent)
            return
