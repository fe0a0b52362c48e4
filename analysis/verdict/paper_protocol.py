"""How the runs that were measured differ from those that a paper reports on, in words, from the records of both."""

from collections.abc import Mapping
from typing import Any

from analysis.records.published import Config, setting_words, suite_of

MISSING = object()


def settings_of(config: Config) -> dict[str, Any]:
    """A run's settings by name, with those that papers state otherwise: minibatch_prompts and weights."""
    found = {name: value for section in config.values() for name, value in section.items()}
    if {"prompts_per_step", "minibatches"} <= set(found):
        found["minibatch_prompts"] = found["prompts_per_step"] / found["minibatches"]
    if {"fipo_clip_range", "fipo_clip_high_only"} <= set(found):
        width = found["fipo_clip_range"]
        low = 0.0 if found["fipo_clip_high_only"] else width
        found["weights"] = [1.0 - low, 1.0 + width] if width else None
    if found.get("train_data"):
        found["train_data"] = suite_of(str(found["train_data"]))
    return found


def setting_differences(config: Config, published: Mapping[str, Any]) -> list[str]:
    """A phrase for each setting that differs from what a paper states, or that the run did not record."""
    ours = settings_of(config)
    phrases = []
    for name, words in setting_words().items():
        if name in published and (mine := ours.get(name, MISSING)) != published[name]:
            phrases.append(f"{words}: {_shown(mine)} here, {_shown(published[name])} published")
    if ours.get("lora_rank"):
        phrases.append(f"LoRA adapters of rank {ours['lora_rank']} are trained here, all weights in the paper")
    return phrases + ([str(published["says"])] if "says" in published else [])


def _shown(value: Any) -> str:
    if value is MISSING:
        return "not recorded"
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "on", False: "off"}[value]
    if isinstance(value, float | int):
        return f"{value:.10g}"
    return str(value)
