from pathlib import Path

import pytest

from harness import section_of
from sweeps.__main__ import main
from tests.harness.command_line import outcome

# flags, what the line must name
WRONG = [
    ("--losses grpo,ppo", "'ppo'"),
    ("--losses grpo --controls blame:two", "--controls"),
    ("--losses grpo --controls blame:-1", "--controls"),
    ("--losses grpo --controls blame:0", "--losses"),
    ("--losses ,", "--losses"),
    ("--seeds 0", "--seeds"),
    ("--slots -1", "--slots"),
    ("--seeds many", "--seeds"),
    ("--first_seed -1", "--seed"),
    ("--family mine", "--family"),
    ("--preset nosuch", "--preset"),
    ("--steps 0", "--steps"),
    ("--lr fast", "--lr"),
    ("--prompts_per_step 30", "--prompts_per_step 30"),
    ("--loss_type fipo", "--loss_type is set by the command"),
    ("--seed 3", "--seed is set by the command"),
    ("--control blame", "--control is set by the command"),
    ("--output_dir x", "--output_dir is set by the command"),
    ("--epsilon_high 0.3", "--epsilon_high is set by arm 'grpo'"),
    ("--losses fipo --fipo_decay_rate 8", "--fipo_decay_rate is set by arm 'fipo'"),
    ("--loses grpo", "--loses"),
    ("--tracking_uri nope://x", "--tracking_uri"),
]


@pytest.mark.parametrize(("flags", "named"), WRONG)
def test_wrong_use_is_one_line_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: str, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, printed, errors = outcome(main, ["compare", *flags.split(), "--study", tmp_path / "study"], capsys)
    assert (code, printed, len(errors)) == (2, [], 1)
    assert errors[0].startswith("error: ")
    assert named in errors[0]
    assert list(tmp_path.iterdir()) == []


def test_help_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compare", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert [name for name in section_of() if f"--{name} " not in text] == []
