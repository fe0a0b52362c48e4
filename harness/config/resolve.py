"""Resolves preset, file and flags into a validated Config. Flags override the file, which overrides the preset."""

import difflib
import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.config.base import parsed
from harness.config.names import ANSWERS, OURS
from harness.config.schema import Config, section_of, sections
from harness.console import command
from harness.errors import UsageError

LARGEST = 2**63
REMOVED = "hostfile"  # a setting that only older versions recorded; ssh went with it
PRESETS = Path(__file__).parents[1] / "presets"


def resolve(flags: Mapping[str, Any], preset: str | None = None, config_file: str | None = None) -> Config:
    """The validated config of a new run. Raises UsageError with a one-line message that names the flag at fault."""
    config = build(layered(flags, preset, config_file))
    if (config.backend.backend, config.backend.zero_stage, config.model.dtype) == ("deepspeed", 1, "bfloat16"):
        raise UsageError(
            "--zero_stage 1 with --dtype bfloat16: DeepSpeed would sum gradients in bfloat16: pass --zero_stage 2, or "
            "--dtype float32"
        )
    return config


def read_config(path: Path) -> Config:
    """The validated config in a file, which may belong to a planned or a recorded run."""
    return build(layered({}, config_file=str(path)))


def layered(flags: Mapping[str, Any], preset: str | None = None, config_file: str | None = None) -> dict[str, Any]:
    """The settings from preset, file and command line, merged by flag."""
    layers: dict[str, Any] = {}
    if preset is not None:
        layers |= preset_settings(preset)
    if config_file is not None:
        layers |= file_settings(read_settings(Path(config_file)), f"--config {config_file}")
    return layers | checked_keys(dict(flags), "command line")


def build(flat: Mapping[str, Any]) -> Config:
    """The Config with these settings, and defaults for the rest. Raises UsageError for invalid values."""
    where = section_of()
    tree: dict[str, dict[str, Any]] = {}
    for flag, value in flat.items():
        if isinstance(value, int) and abs(value) >= LARGEST:  # printing one of 4,300 digits would fail
            raise UsageError(f"--{flag}: expected a number below 2^63, got a larger one")
        tree.setdefault(where[flag], {})[flag] = value
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise UsageError(one_line(error)) from None
    from losses import LOSSES, LossSettingError  # seconds to import, which --help and wrong flags need not wait for

    try:
        LOSSES[config.loss.loss_type](**config.loss.loss_fields())
    except LossSettingError as error:
        raise UsageError(f"--{config.loss.flag(error.field)}: {error}") from None
    return config


def with_loss(config: Config, flags: Mapping[str, Any]) -> Config:
    """The config with other settings of the loss; a new --loss_type also resets averaging to its default."""
    recorded = flatten(tree_of(config))
    if "loss_type" in flags:
        del recorded["averaging"]
    return build({**recorded, **flags})


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by flag, from a tree that may or may not group them into sections (config.json does)."""
    tree = values["config"] if isinstance(values.get("config"), Mapping) else values
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and key not in sections():
            raise UsageError(f"expected settings, or sections among {', '.join(sections())}, got section {key!r}")
        part = value if isinstance(value, Mapping) else {key: value}
        twice = sorted(part.keys() & flat.keys())
        if twice:
            raise UsageError(f"expected every setting once, got {twice[0]} twice")
        flat |= part
    return flat


def file_settings(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The settings of a file by flag. TOML has no null, so "none" becomes None."""
    flat = checked_keys(flatten(values), source)
    return {name: parsed(value) if isinstance(value, str) else value for name, value in flat.items()}


def settings_in(options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among a command's options, by flag."""
    return {name: parsed(value) for name, value in options.items() if name in section_of()}


def checked_keys(flat: dict[str, Any], source: str) -> dict[str, Any]:
    """The settings under our names. Raises UsageError for an unknown name, with the most similar one."""
    known, ours = section_of(), {}
    for key, value in flat.items():
        if key == REMOVED and value is None:
            continue
        name = OURS.get(key, key)
        if name not in known:
            near = difflib.get_close_matches(name, [*known, *OURS], n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"see {command('harness', 'train', '--help')}"
            raise UsageError(f"{source}: expected a setting's name, got unknown key {key!r}: {ANSWERS.get(key, hint)}")
        if name in ours:
            raise UsageError(f"{source}: expected every setting once, got {name} and another name for it")
        ours[name] = value
    return ours


def preset_settings(preset: str, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The settings of a preset, merged over those of its `base` preset, if it names one."""
    path = preset_path(preset)
    if path in above:
        raise UsageError(f"preset {path}: expected a base other than itself, got {preset!r} again: name another")
    values = read_settings(path)
    base = values.pop("base", None)
    if base is not None and not isinstance(base, str):
        raise UsageError(f"preset {path}: expected the name of a preset as base, got {base!r}")
    own = file_settings(values, f"preset {path}")
    return (preset_settings(base, (*above, path)) if base else {}) | own


def preset_path(preset: str) -> Path:
    shipped = PRESETS / f"{preset}.toml"
    if shipped.is_file():
        return shipped
    if Path(preset).is_file():
        return Path(preset)
    names = sorted(str(path.relative_to(PRESETS).with_suffix("")) for path in PRESETS.rglob("*.toml"))
    raise UsageError(f"--preset: expected one of {', '.join(names)} or a TOML file, got {preset!r}")


def read_settings(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{path}: expected a readable TOML or JSON file, got: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: expected TOML, or JSON in a .json file, got: {error}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected settings by name, got a {type(values).__name__}")
    return values


def one_line(error: ValidationError) -> str:
    """The first error that pydantic found, in the form of our messages."""
    fault = error.errors()[0]
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    expected = fault["msg"].replace("Input should be", "expected").replace("a valid integer", "an integer")
    expected = expected.partition(", unable to parse")[0].replace("valid ", "")
    return f"--{fault['loc'][-1]}: {expected}, got {repr(fault['input'])[:200]}"


def resolve_tree(tree: Mapping[str, Any], source: Path) -> Config:
    """The checked settings of a recorded run; without `give_up_after` it is from a version that never gave up."""
    flat = {name: value for name, value in flatten(tree).items() if name != REMOVED}
    return build({"give_up_after": None} | checked_keys(flat, str(source)))


def tree_of(config: Config) -> dict[str, Any]:
    """All settings by section, as config.json holds them."""
    return config.model_dump(mode="json")


def config_sha256(config: Config) -> str:
    """Identity of the settings, `output_dir` excluded."""
    return tree_sha256(tree_of(config))


def tree_sha256(tree: Mapping[str, Any]) -> str:
    """The same of recorded settings, which may have other fields."""
    kept = dict(tree)
    if isinstance(kept.get("run"), Mapping):
        kept["run"] = {name: value for name, value in kept["run"].items() if name != "output_dir"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
