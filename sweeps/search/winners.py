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
from sweeps.search.study import LossStudy
from sweeps.search.tables import best_rows, trial_rows
from sweeps.study.arms import Arm, Family, check_differences, differences_between, load_family
from sweeps.study.claims import FILE
from sweeps.study.folder import identity, locked, read_json
from sweeps.workers.slots import Slot


def run_winners(search: Search, studies: Mapping[str, LossStudy], slots: Sequence[Slot], console: Console) -> None:
    """Run the best settings of each loss on the reporting seeds, as a comparison in STUDY/winners."""
    arms = winning_arms(search, studies)
    if not arms:
        console.print("no trial found feasible settings: there is nothing to run again")
        return
    family, study = tuned_family(search, arms), search.study / "winners"
    check_differences(differences_between(arms, family), family)
    console.print(f"winners: {', '.join(arm.name for arm in arms)} on {len(search.report_seeds)} fresh seeds")
    with locked(search.study, ".lock-winners"):  # hosts that share the folder come here one after the other
        set_aside_others(study, arms)
        study.mkdir(exist_ok=True)
        claims = (read_json(search.study / "study.json") or {}).get("claims")  # fixed before the first trial
        if claims:
            shutil.copyfile(search.study / FILE, study / FILE)
        compare(Comparison(study, family, search.preset, arms, claims), slots)


def winning_arms(search: Search, studies: Mapping[str, LossStudy]) -> list[Arm]:
    """An arm per loss that has a feasible trial."""
    arms = []
    for loss, row in best_rows(trial_rows(search, studies)).items():
        trial = studies[loss].counting_all(search.trials)[row["trial"]]
        values = {**search.spaces[loss].fixed, **(trial.params if trial else {})}
        settings = {**search.settings[loss], **values}
        configs = {seed: resolve({**settings, "seed": seed}, search.preset) for seed in search.report_seeds}
        arms.append(Arm(loss, own_settings(search, loss, settings), configs))
    return arms


def own_settings(search: Search, loss: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those that not every loss has alike."""
    shared = set.intersection(*({(n, repr(v)) for n, v in one.items()} for one in search.settings.values()))
    searched = search.spaces[loss].parameters
    alone = len(search.losses) == 1
    return {n: v for n, v in settings.items() if n in searched or alone or (n, repr(v)) not in shared}


def tuned_family(search: Search, arms: Sequence[Arm]) -> Family:
    """What may differ between winners: what may between the family's arms, and what was searched."""
    family = load_family(search.family)
    searched = {name for space in search.spaces.values() for name in space.parameters}
    return Family(
        name="tuned",
        description=f"the best settings of each loss out of {search.trials} trials; what was searched may differ",
        allowed=family.allowed | searched,
        confounds=family.confounds,
        arms={arm.name: arm.settings for arm in arms},
    )


def check_comparable(search: Search) -> None:
    """Raise UsageError where the losses differ in what their family does not admit: before anything is searched."""
    arms = []
    for loss, space in search.spaces.items():
        settings = {**search.settings[loss], **next(space.corners())}
        arms.append(Arm(loss, settings, {0: resolve({**settings, "seed": 0}, search.preset)}))
    family = tuned_family(search, arms)
    check_differences(differences_between(arms, family), family)


def set_aside_others(study: Path, arms: Sequence[Arm]) -> None:
    """Move winners of an earlier, shorter search out of the way, where other settings have won since."""
    described = read_json(study / "study.json")
    if described is None:
        return
    for arm in described["arms"]:
        config = next((one.any_config for one in arms if one.name == arm["name"]), None)
        file = study / "configs" / f"{arm['name']}-seed{arm['seeds'][0]}.json"
        if config is None or identity(config) != identity(read_config(file)):
            kept = study.parent / "superseded"
            kept.mkdir(exist_ok=True)
            number = 1 + sum(1 for _ in kept.glob("winners-*"))
            study.rename(kept / f"winners-{number}")
            return
