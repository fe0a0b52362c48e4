"""What study.json says of a search: fixed when it begins, and the same whenever it goes on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import UsageError, flatten, tree_of
from sweeps.search.options import Search
from sweeps.study.folder import SCHEMA_VERSION, first_difference, other_study, read_json
from sweeps.tracking.log import without_password

MAY_DIFFER = ("trials", "report_seeds", "controls", "labels")  # between two starts of a search
OWN_FILES = ("optuna.db", "claims.toml", ".lock", ".track", "configs", "logs")  # before there is a study.json


def described(search: Search) -> dict[str, Any]:
    """The search. `settings` are as the config has them, however the flags spelled them."""
    resolved = {loss: flatten(tree_of(search.typical_config(loss))) for loss in search.losses}
    spaces, limits = search.spaces.items(), ("response_tokens", "truncated_share", "collapse")
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "search",
        "name": search.name,
        "preset": search.preset,
        "family": search.family,
        "storage": without_password(search.storage) if search.storage else None,
        "losses": list(search.losses),
        "labels": {loss: label for loss in search.losses if (label := search.arms.about(loss)["label"])},
        "space": search.space,
        "spaces": {loss: {n: one.described() for n, one in space.parameters.items()} for loss, space in spaces},
        "settings": {loss: {n: resolved[loss][n] for n in own} for loss, own in search.settings.items()},
        "controls": search.controlled,
        "sampler": search.sampling,
        "trials": search.trials,
        "seeds": list(search.tuning_seeds),
        "report_seeds": list(range(search.report_seeds)),
        "token_budget": search.typical_config().run.token_budget,
        "limits": {name: getattr(search, f"limit_{name}") for name in limits},
    }


def of_loss(search: Search, loss: str) -> dict[str, Any]:
    """The loss's part of the search, by which a storage knows it again: not its folder or size."""
    whole = comparable(described(search))
    kept = {name: whole[name] for name in ("seeds", "limits", "sampler")}
    return kept | {"space": whole["spaces"][loss], "settings": flatten(tree_of(search.typical_config(loss)))}


def check_same(new: Mapping[str, Any], study: Path) -> Mapping[str, Any] | None:
    """What study.json says already, or None. Raises UsageError unless it is this search, with no fewer trials."""
    old = read_json(study / "study.json")
    if old is None:  # no search has left more than its own files when it was killed as it began
        found = sorted(path.name for path in study.iterdir()) if study.is_dir() else []
        if foreign := [name for name in found if not name.startswith(OWN_FILES)]:
            raise other_study(study, f"it holds {foreign[0]}")
        return None
    if not isinstance(old, dict) or old.get("kind") != "search":
        raise other_study(study, "it is no search's")
    if (study / "optuna.journal").exists():
        raise other_study(study, "an earlier version keeps its trials in optuna.journal, and has to end it")
    if other := first_difference(comparable(new), comparable({name: old.get(name) for name in new})):
        raise other_study(study, f"its {other}")
    if new["trials"] < old["trials"]:
        raise UsageError(
            f"--trials: expected at least the {old['trials']} that {str(study)!r} has, got {new['trials']}"
        )
    return old


def comparable(described: Mapping[str, Any]) -> dict[str, Any]:
    """A description without what may differ between two starts of a search: also Optuna's version, and how many random
    trials the number of trials led to.
    """
    kept = {name: value for name, value in described.items() if name not in MAY_DIFFER}
    sampler = {name: value for name, value in (kept["sampler"] or {}).items() if name != "optuna"}
    arguments = {name: one for name, one in sampler.get("arguments", {}).items() if name != "n_startup_trials"}
    return {**kept, "sampler": {**sampler, "arguments": arguments}}
