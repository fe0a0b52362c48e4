"""The best settings of each loss, run again on fresh seeds and on the prompts that results are reported on.

The best of many trials is biased upwards: it was chosen for its value. What is compared are these runs.
"""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness import read_config, resolve, say
from sweeps.comparison import Comparison, compare
from sweeps.search.options import Search
from sweeps.search.tables import Row, best_rows
from sweeps.study.arms import ABOUT, Arm, Family, check_differences, differences_between, settings_of
from sweeps.study.claims import FILE
from sweeps.study.folder import InUse, identity, locked, read_json, set_aside
from sweeps.workers.pool import Pool

LOCK = ".lock-winners"


def run_winners(search: Search, rows: Sequence[Row], pool: Pool) -> None:
    """Run the best settings of each loss on the reporting seeds, as a comparison in STUDY/winners."""
    best = {loss: row["settings"] for loss, row in best_rows(rows).items()}
    if not best:
        say("winners: no trial found feasible settings: there is nothing to run again")
        return
    arms, winners = arms_of(search, best, range(search.report_seeds)), search.study / "winners"
    say(f"winners: {', '.join(arm.name for arm in arms)} on {search.report_seeds} fresh seeds")
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(search.study, LOCK))
        except InUse:
            say("winners: another host runs them")
            return
        set_aside_others(winners, arms)
        winners.mkdir(exist_ok=True)
        claims = (read_json(search.study / "study.json") or {}).get("claims")  # fixed before the first trial
        if claims:
            shutil.copyfile(search.study / FILE, winners / FILE)
        compare(Comparison(winners, tuned_family(search, arms), search.preset, arms, claims), pool)


def arms_of(search: Search, best: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]) -> list[Arm]:
    """The losses with these values of what is searched, and the controls that are like one of them."""
    pairs, arms = [*((loss, loss) for loss in best), *search.controlled.items()], []
    for name, loss in ((name, loss) for name, loss in pairs if loss in best):
        of_loss = settings_of(search.arms, loss)
        own = dict(settings_of(search.arms, name).items() - of_loss.items()) if name != loss else {}
        settings = {**search.settings[loss], **best[loss], **own}
        configs = {seed: resolve({**settings, "seed": seed}, search.preset) for seed in seeds}
        arms.append(Arm(name, {**of_loss, **best[loss], **own}, configs))
    return arms


def tuned_family(search: Search, arms: Sequence[Arm]) -> Family:
    """What may differ between winners: what may between the family's arms, and what was searched.

    Raises UsageError where these arms differ in more.
    """
    family = search.arms
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
