import errno
from pathlib import Path

import pytest

from harness import run_command
from harness.__main__ import main
from harness.errors import REASON_FILE, FolderHeld, RanksFailed, Stopped, UsageError
from tests.harness.command_line import outcome

# flags, what the line must name
WRONG = [
    ("--loss_type ppo", "--loss_type"),
    ("--delta 1.0 --epsilon_high 0.28", "--delta"),
    ("--delta 1.28 --epsilon_high 0.28", "--delta"),
    ("--delta inf", "--delta"),
    ("--epsilon 0", "--epsilon"),
    ("--epsilon 1", "--epsilon"),
    ("--epsilon_high 0", "--epsilon_high"),
    ("--beta -0.1", "--beta"),
    ("--log_ratio_clamp 0", "--log_ratio_clamp"),
    ("--averaging mean", "--averaging"),
    ("--loss_type fipo --fipo_decay_rate 0", "--fipo_decay_rate"),
    ("--loss_type fipo --fipo_decay_rate -1", "--fipo_decay_rate"),
    ("--loss_type fipo --fipo_decay_rate inf", "--fipo_decay_rate"),
    ("--loss_type fipo --fipo_decay_rate nan", "--fipo_decay_rate"),
    ("--loss_type fipo --fipo_decay_rate fast", "--fipo_decay_rate"),
    ("--loss_type fipo --fipo_clip_range -0.1", "--fipo_clip_range"),
    ("--loss_type fipo --fipo_clip_range 1 --fipo_clip_high_only false", "--fipo_clip_range"),
    ("--loss_type fipo --fipo_clip_high_only maybe", "--fipo_clip_high_only"),
    ("--loss_type fipo --fipo_safety_threshold 0", "--fipo_safety_threshold"),
    ("--loss_type fipo --fipo_safety_threshold -1", "--fipo_safety_threshold"),
    ("--loss_type fipo --minibatches 1", "--allow_inert true"),
    ("--model ./missing", "--model"),
    ("--model .", "--model"),
    ("--task sums", "--task"),
    ("--group_size 1", "--group_size"),
    ("--prompts_per_step 30 --minibatches 8", "--prompts_per_step 30"),
    ("--micro_batch_size 3", "--micro_batch_size 3"),
    ("--micro_batch_size 2 --micro_batch_tokens 99", "--micro_batch_size 2 and --micro_batch_tokens 99"),
    ("--overlong_buffer 72 --max_response_tokens 72", "--overlong_buffer 72"),
    ("--steps 0", "--steps"),
    ("--steps many", "--steps"),
    ("--steps 1.5", "--steps"),
    ("--lr 0", "--lr"),
    ("--temperature 0", "--temperature"),
    ("--seed -1", "--seed"),
    ("--eval_top_p 0", "--eval_top_p"),
    ("--control reward", "--control"),
    ("--top_p 0.9", "--top_p"),
    ("--step 3", "--step"),
    ("--steps", "--steps"),
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
        ("step = 3", "'step': did you mean 'steps'?"),
        ("fipo_decayrate = 3", "did you mean 'fipo_decay_rate'?"),
        ("[run]\nzzz = 3", "unknown key 'zzz'"),
        ("steps =", "expected TOML"),
        ("steps = 0", "--steps"),
        ("loss_type = 'ppo'", "--loss_type"),
    ],
)
@pytest.mark.parametrize("flag", ["--preset", "--config"])
def test_wrong_files_are_one_line(
    empty_place: Path, capsys: pytest.CaptureFixture[str], flag: str, content: str, named: str
) -> None:
    (empty_place / "own.toml").write_text(content, encoding="utf-8")
    code, printed, errors = outcome(main, ["train", flag, "own.toml", "--output_dir", "run"], capsys)
    assert (code, printed, len(errors)) == (2, [], 1)
    assert named in errors[0]
    assert [path.name for path in empty_place.iterdir()] == ["own.toml"]


def test_files_that_are_no_settings_are_one_line(empty_place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (empty_place / "list.json").write_text("[1]", encoding="utf-8")
    (empty_place / "bytes.toml").write_bytes(b"\xff\xfe")
    (empty_place / "folder").mkdir()
    for name in ("list.json", "bytes.toml", "folder"):
        code, printed, errors = outcome(main, ["train", "--config", name, "--output_dir", "run"], capsys)
        assert (code, printed, len(errors)) == (2, [], 1)
        assert name in errors[0]


def test_a_used_output_folder_is_left_as_it_is(empty_place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    used = empty_place / "used"
    used.mkdir()
    (used / "notes.txt").write_text("mine", encoding="utf-8")
    code, printed, errors = outcome(main, ["train", "--output_dir", used], capsys)
    assert (code, printed, len(errors)) == (2, [], 1)
    assert "--output_dir" in errors[0]
    assert [path.name for path in empty_place.rglob("*")] == ["used", "notes.txt"]
    assert (used / "notes.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("output_dir", ["file", "file/run"])
def test_an_output_folder_that_cannot_be_is_one_line(
    empty_place: Path, capsys: pytest.CaptureFixture[str], model_folder: str, output_dir: str
) -> None:
    (empty_place / "file").write_text("mine", encoding="utf-8")
    arguments = ["train", "--model", model_folder, "--steps", "1", "--output_dir", output_dir]
    code, printed, errors = outcome(main, arguments, capsys)
    assert (code, printed, len(errors)) == (2, [], 1)
    assert "--output_dir" in errors[0]


@pytest.mark.parametrize("samples", ["0", "two"])
def test_evaluate_wants_a_finished_run_and_samples(
    empty_place: Path, capsys: pytest.CaptureFixture[str], samples: str
) -> None:
    code, _, errors = outcome(main, ["evaluate", "missing", "--output_dir", "out", "--samples", samples], capsys)
    assert (code, len(errors)) == (2, 1)
    assert "--samples" in errors[0]
    code, _, errors = outcome(main, ["evaluate", "missing", "--output_dir", "out"], capsys)
    assert (code, len(errors)) == (2, 1)
    assert "missing" in errors[0]
    assert list(empty_place.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "exit_code", "reason"),
    [
        (UsageError("x"), 2, "wrong_use"),
        (FolderHeld("x"), 2, "held"),
        (Stopped("x"), 75, "stopped"),
        (KeyboardInterrupt(), 75, "stopped"),
        (RanksFailed("x", 1, "out_of_memory"), 1, "out_of_memory"),
        (OSError(errno.ENOSPC, "no space"), 1, "disk_full"),
    ],
)
def test_a_process_leaves_the_code_of_its_end_where_it_was_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, exit_code: int, reason: str
) -> None:
    def fail(_arguments: list[str]) -> None:
        raise error

    monkeypatch.setenv(REASON_FILE, str(tmp_path / "reason"))
    assert run_command(fail, []) == exit_code
    assert (tmp_path / "reason").read_text(encoding="utf-8").strip() == reason


@pytest.mark.parametrize(("error", "reason"), [(MemoryError(), "out_of_memory"), (ZeroDivisionError(), "failed")])
def test_so_does_one_that_fails_in_an_unforeseen_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def fail(_arguments: list[str]) -> None:
        raise error

    monkeypatch.setenv(REASON_FILE, str(tmp_path / "reason"))
    with pytest.raises(type(error)):
        run_command(fail, [])
    assert (tmp_path / "reason").read_text(encoding="utf-8").strip() == reason


def test_a_mistyped_flag_names_its_nearest(empty_place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(main, ["train", "--learning_rat", "1", "--lrr", "3"]) == 2
    assert run_command(main, ["train", "--group_sise", "4"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert errors[1].endswith("did you mean --group_size?")
    assert list(empty_place.iterdir()) == []


@pytest.mark.usefixtures("empty_place")
def test_mathematical_problems_need_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, errors = outcome(main, ["train", "--task", "math", "--output_dir", "out"], capsys)
    assert (code, printed, len(errors)) == (2, [], 1)
    assert "--task math needs --model" in errors[0]


def test_a_row_that_no_tokenizer_can_read_is_one_line(
    empty_place: Path, capsys: pytest.CaptureFixture[str], model_folder: str
) -> None:
    (empty_place / "half.jsonl").write_text('{"problem": "What \\ud83d?", "answer": "2"}', encoding="utf-8")
    arguments = ["train", "--task", "math", "--model", model_folder, "--output_dir", "out"]
    arguments += ["--train_data", "half.jsonl", "--eval_data", "half.jsonl"]
    code, printed, errors = outcome(main, arguments, capsys)
    assert (code, printed, len(errors)) == (2, [], 1)
    assert "--train_data: half.jsonl, row 1: expected text in problem, got '\\ud83d' in it" in errors[0]
    assert [path.name for path in empty_place.iterdir()] == ["half.jsonl"]


@pytest.mark.usefixtures("empty_place")
def test_evaluate_wants_a_folder_that_it_can_go_on_with(capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, errors = outcome(main, ["evaluate", "owner/name", "--suite", "aime24"], capsys)
    assert (code, printed, len(errors)) == (2, [], 1)
    assert "--output_dir" in errors[0]
