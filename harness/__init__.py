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
