"""One training run. These are the names that other packages may use."""

from harness.backends.rendezvous import free_port
from harness.cli.parser import OneLineParser, add_setting_flags, run_command
from harness.config.base import parsed, spelled
from harness.config.differences import Difference, differences
from harness.config.loss import LOSS_TYPES, OWN_PREFIXES, is_anothers
from harness.config.resolve import config_sha256, flatten, one_line, read_config, resolve, settings_in, tree_of
from harness.config.schedule import guessed_seconds, most_tokens
from harness.config.schema import MADE_HERE, Config, section_of
from harness.console import command, doing, in_words, say
from harness.errors import REASON_FILE, HarnessError, Stopped, UsageError, memory_kills
from harness.files import json_object, write_json, write_table
from harness.run.history import read_history
from harness.tasks.own_files import own_code_hashes

__all__ = [
    "LOSS_TYPES",
    "MADE_HERE",
    "OWN_PREFIXES",
    "REASON_FILE",
    "Config",
    "Difference",
    "HarnessError",
    "OneLineParser",
    "Stopped",
    "UsageError",
    "add_setting_flags",
    "command",
    "config_sha256",
    "differences",
    "doing",
    "flatten",
    "free_port",
    "guessed_seconds",
    "in_words",
    "is_anothers",
    "json_object",
    "memory_kills",
    "most_tokens",
    "one_line",
    "own_code_hashes",
    "parsed",
    "read_config",
    "read_history",
    "resolve",
    "run_command",
    "say",
    "section_of",
    "settings_in",
    "spelled",
    "tree_of",
    "write_json",
    "write_table",
]
