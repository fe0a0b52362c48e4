import errno
from contextlib import nullcontext
from pathlib import Path

import pytest

from harness import run_command
from harness.__main__ import main
from harness.errors import REASON_FILE, FolderHeld, RanksFailed, Stopped, UsageError
from tests.harness.command_line import outcome

VALUES = """
loss_type=ppo delta=inf epsilon=0 epsilon=1 epsilon_high=0 beta=-0.1 log_ratio_clamp=0 averaging=mean model=./missing
model=. task=sums group_size=1 steps=0 steps=many steps=1.5 lr=0 temperature=0 seed=-1 eval_top_p=0 control=reward
top_p=0.9 step=3 fipo_decay_rate=0 fipo_decay_rate=-1 fipo_decay_rate=inf fipo_decay_rate=nan fipo_decay_rate=fast
fipo_clip_range=-0.1 fipo_clip_high_only=maybe fipo_safety_threshold=0 fipo_safety_threshold=-1
"""
# flags, what the line must name
WRONG = [
    (f"{'--loss_type fipo ' * name.startswith('fipo_')}--{name} {value}", f"--{name}")
    for name, value in (word.split("=") for word in VALUES.split())
]
WRONG += [
    ("--steps", "--steps"),
    ("--delta 1.0 --epsilon_high 0.28", "--delta"),
    ("--delta 1.28 --epsilon_high 0.28", "--delta"),
    ("--loss_type fipo --fipo_clip_range 1 --fipo_clip_high_only false", "--fipo_clip_range"),
    ("--loss_type fipo --minibatches 1", "--allow_inert true"),
    ("--prompts_per_step 30 --minibatches 8", "--prompts_per_step 30"),
    ("--dtype bfloat16 --backend deepspeed --zero_stage 1", "--zero_stage 2, or --dtype float32"),
    ("--micro_batch_size 3", "--micro_batch_size 3"),
    ("--micro_batch_size 2 --micro_batch_tokens 99", "--micro_batch_size 2 and --micro_batch_tokens 99"),
    ("--overlong_buffer 72 --max_response_tokens 72", "--overlong_buffer 72"),
    (
        "--engine vllm --backend deepspeed --nproc 3 --rollout_tp 2",
        "--rollout_tp: expected a divisor of the host's 3 r",
    ),
    ("--preset nosuch", "demo"),
    ("--preset missing.toml", "missing.toml"),
    ("--config missing.toml", "missing.toml"),
]


@pytest.fixture(autouse=True)
def empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command runs; nothing else is written anywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIPO_HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize(("flags", "named"), WRONG)
def test_wrong_use_is_one_line_and_starts_nothing(
    empty_place: Path, capsys: pytest.CaptureFixture[str], flags: str, named: str
) -> None:
    code, printed, errors = outcome(main, ["train", *flags.split(), "--output_dir", empty_place / "run"], capsys)
    assert code == 2
    assert [line for line in printed if not line.startswith("note: ")] == []
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert named in errors[0]
    assert list(empty_place.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["learn"], ["prepare"], ["evaluate"], ["train", "surplus"]])
def test_wrong_commands_are_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, printed, errors = outcome(main, arguments, capsys)
    assert (code, printed, len(errors)) == (2, [], 1)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"step = 3", "'step': did you mean 'steps'?"),
        (b"fipo_decayrate = 3", "did you mean 'fipo_decay_rate'?"),
        (b"[run]\nzzz = 3", "unknown key 'zzz'"),
        (b"steps =", "expected TOML"),
        (b"\xff\xfe", "own.toml"),
        (b"steps = 0", "--steps"),
        (b"loss_type = 'ppo'", "--loss_type"),
    ],
)
@pytest.mark.parametrize("flag", ["--preset", "--config"])
def test_wrong_files_are_one_line(
    empty_place: Path, capsys: pytest.CaptureFixture[str], flag: str, content: bytes, named: str
) -> None:
    (empty_place / "own.toml").write_bytes(content)
    code, printed, errors = outcome(main, ["train", flag, "own.toml", "--output_dir", "run"], capsys)
    assert (code, printed, len(errors)) == (2, [], 1)
    assert named in errors[0]
    assert [path.name for path in empty_place.iterdir()] == ["own.toml"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("train --config list.json --output_dir run", "list.json"),
        ("train --config . --output_dir run", ".: expected a readable TOML or JSON file"),
        ("train --task math --output_dir out", "--task math needs --model"),
        ("evaluate missing --suite aime24 --output_dir out --samples 0", "--eval_samples: expected greater than"),
        ("evaluate missing --suite aime24 --output_dir out --samples two", "--eval_samples: expected an integer"),
        ("train --steps 1 --output_dir list.json", "--output_dir"),
        ("train --steps 1 --output_dir list.json/run", "--output_dir"),
        ("evaluate missing --output_dir out", "missing"),
        ("evaluate owner/name --suite aime24", "--output_dir"),
    ],
)
def test_so_are_other_commands(empty_place: Path, capsys: pytest.CaptureFixture[str], words: str, named: str) -> None:
    (empty_place / "list.json").write_text("[1]", encoding="utf-8")
    code, printed, errors = outcome(main, words.split(), capsys)
    assert (code, printed, len(errors)) == (2, [], 1)
    assert named in errors[0]
    assert [path.name for path in empty_place.iterdir()] == ["list.json"]


@pytest.mark.parametrize(
    ("error", "exit_code", "reason"),
    [
        (UsageError("x"), 2, "wrong_use"),
        (FolderHeld("x"), 2, "held"),
        (Stopped("x"), 75, "stopped"),
        (KeyboardInterrupt(), 75, "stopped"),
        (RanksFailed("x", 1, "out_of_memory"), 1, "out_of_memory"),
        (OSError(errno.ENOSPC, "no space"), 1, "disk_full"),
        (MemoryError(), None, "out_of_memory"),  # what is unforeseen is raised on
        (ZeroDivisionError(), None, "failed"),
    ],
)
def test_a_process_leaves_the_code_of_its_end_where_it_was_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, exit_code: int | None, reason: str
) -> None:
    def fail(_arguments: list[str]) -> None:
        raise error

    monkeypatch.setenv(REASON_FILE, str(tmp_path / "reason"))
    with nullcontext() if exit_code else pytest.raises(type(error)):
        assert run_command(fail, []) == exit_code
    assert (tmp_path / "reason").read_text(encoding="utf-8").strip() == reason


@pytest.mark.parametrize(
    ("words", "ending"),
    [
        ("train --group_sise 4", "did you mean --group_size?"),
        ("train --learning_rat 1", "did you mean --learning_rate?"),
        ("train --dryrun", "did you mean --dry_run?"),
        ("train --max_steps 3", ": --steps (theirs counts optimizer steps, ours rounds of rollouts)"),
        ("train --zzz 3", "see python -m harness train --help"),
        ("microscope x --prefixs 3", "did you mean --prefixes?"),
        ("diff a b c", "see python -m harness diff --help"),
        ("trian", "did you mean train?"),
    ],
)
def test_what_is_mistyped_names_its_nearest_or_the_commands_own_page(
    empty_place: Path, capsys: pytest.CaptureFixture[str], words: str, ending: str
) -> None:
    code, printed, errors = outcome(main, words.split(), capsys)
    assert (code, printed, len(errors)) == (2, [], 1)
    assert errors[0].endswith(ending)
    assert list(empty_place.iterdir()) == []
