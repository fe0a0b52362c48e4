import re

import pytest

from harness.cli.parser import OneLineParser, add_setting_flags
from harness.config.names import ALSO, ANSWERS, OURS
from harness.config.resolve import resolve, settings_in
from harness.config.schema import section_of
from harness.errors import UsageError


def test_names_of_other_trainers_lead_to_settings_that_exist() -> None:
    settings = section_of().keys()
    assert settings >= ALSO.keys()
    assert not (OURS.keys() | ANSWERS.keys()) & settings
    assert not OURS.keys() & ANSWERS.keys()
    assert {flag for answer in ANSWERS.values() for flag in re.findall(r"--(\w+)", answer)} <= settings


def test_they_are_understood_on_the_command_line_and_in_files() -> None:
    parser = OneLineParser(allow_abbrev=False)
    add_setting_flags(parser)
    words = "--learning_rate 1e-5 --num_generations 4 --max_completion_length 9 --num_iterations 2"
    bare = ["--dynamic_sample", "--overlong_filter", "false"]
    settings = settings_in(vars(parser.parse_args([*words.split(), *bare])))
    expected = {"lr": "1e-5", "group_size": "4", "max_response_tokens": "9", "epochs": "2"}
    assert settings == expected | {"dynamic_sampling": "true", "overlong_filter": "false"}
    assert resolve({"learning_rate": 1e-5, "clip_ratio_high": 0.28}) == resolve({"lr": 1e-5, "epsilon_high": 0.28})
    with pytest.raises(UsageError, match="expected every setting once, got lr and another name for it"):
        resolve({"lr": 1e-5, "learning_rate": 1e-5})
    with pytest.raises(UsageError, match="unknown key 'max_steps': --steps "):
        resolve({"max_steps": 3})
