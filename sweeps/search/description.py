"""What study.json says of a search: fixed when it begins, and the same whenever it goes on."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import UsageError, config_sha256, flatten, tree_of
from sweeps.search.options import Search
from sweeps.study.folder import SCHEMA_VERSION, other_study, read_json
from sweeps.tracking.log import without_password

VALUE = "mean over the tuning seeds of the final accuracy: the mean of the last evaluations, on the tuning prompts"
PRUNER = {"name": "none", "arguments": {}}  # every trial runs to its end: learning curves cross
MAY_DIFFER = ("trials", "report_seeds", "controls", "labels")  # between two starts of a search
OWN_FILES = ("optuna.journal", "claims.toml", ".lock", ".track", "configs", "logs")  # before there is a study.json


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
        "storage": without_password(search.url) if search.url else None,
        "losses": list(search.losses),
        "labels": {loss: label for loss in search.losses if (label := search.arms.about(loss)["label"])},
        "space": search.space,
        "spaces": {loss: {n: one.described() for n, one in space.parameters.items()} for loss, space in spaces},
        "settings": {loss: {n: resolved[loss][n] for n in own} for loss, own in search.settings.items()},
        "controls": search.controlled,
        "sampler": search.sampling,
        "pruner": PRUNER,
        "value": VALUE,
        "trials": search.trials,
        "seeds": list(search.tuning_seeds),
        "report_seeds": list(range(search.report_seeds)),
        "token_budget": search.typical_config().run.token_budget,
        "limits": {name: getattr(search, f"limit_{name}") for name in limits},
    }


def fingerprint(search: Search, loss: str) -> str:
    """Identity of the loss's part of the search, by which a storage knows it again: not its folder or size."""
    whole = comparable(described(search))
    kept = {name: whole[name] for name in ("seeds", "limits", "value", "pruner", "sampler")}
    kept |= {"space": whole["spaces"][loss], "settings": config_sha256(search.typical_config(loss))}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


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
    known = {name: old.get(name) for name in new}
    if other := difference("", comparable(new), comparable(known)):
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


def difference(place: str, ours: Any, theirs: Any) -> str | None:
    """The first entry in which two settings differ, in words."""
    if ours == theirs:
        return None
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for name in dict.fromkeys([*ours, *theirs]):
            if found := difference(f"{place}.{name}", ours.get(name), theirs.get(name)):
                return found
    return f"{place.removeprefix('.')} is {theirs}, not {ours}"
