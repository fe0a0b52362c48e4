"""One training run: what other packages may use of it."""

from harness.backends.rendezvous import free_port
from harness.cli.parser import OneLineParser, add_setting_flags, parsed, run_command
from harness.config.resolve import config_sha256, flatten, read_config, resolve, tree_of
from harness.config.schedule import evaluation_answers
from harness.config.schema import LOSS_TYPES, OWN_PREFIXES, Config, is_anothers, section_of
from harness.errors import HarnessError, UsageError
from harness.files import write_json, write_table
from harness.memory import MEMORY, memory_kills
from harness.run.cache import cache_folder

__all__ = [
    "LOSS_TYPES",
    "MEMORY",
    "OWN_PREFIXES",
    "Config",
    "HarnessError",
    "OneLineParser",
    "UsageError",
    "add_setting_flags",
    "cache_folder",
    "config_sha256",
    "evaluation_answers",
    "flatten",
    "free_port",
    "is_anothers",
    "memory_kills",
    "parsed",
    "read_config",
    "resolve",
    "run_command",
    "section_of",
    "tree_of",
    "write_json",
    "write_table",
]
