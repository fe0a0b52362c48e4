import subprocess
from pathlib import Path

import pytest

from harness import Difference, resolve, write_json
from sweeps import Arm, arms_of, load_family
from sweeps.study.folder import planned_runs
from sweeps.workers.progress import Progress, differences_table, make_console
from sweeps.workers.slots import Attempt


@pytest.mark.parametrize(
    "message",
    [
        "RuntimeError: [enforce fail at alloc_cpu.cpp:124] can't allocate memory",
        "error: could not read [/data/model]",
    ],
)
def test_a_failing_runs_last_words_are_printed_as_they_are(capsys: pytest.CaptureFixture[str], message: str) -> None:
    make_console().print(f"dapo-seed0: FAILED: {message}")
    assert capsys.readouterr().out == f"dapo-seed0: FAILED: {message}\n"


def test_differences_that_the_family_does_not_admit_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    differences = [
        Difference("averaging", {"grpo": "sequence_mean", "dapo": "token_mean"}, allowed=True),
        Difference("beta", {"grpo": 0.04, "dapo": 0.0}, allowed=False),
    ]
    make_console().print(differences_table(differences))
    lines = [line for line in capsys.readouterr().out.splitlines() if "averaging" in line or "beta" in line]
    assert ["CONFOUND" in line for line in lines] == [False, True]
    assert all(word in lines[1] for word in ("0.04", "0.0"))


def test_a_finished_run_whose_process_still_ends_is_counted_once(tmp_path: Path) -> None:
    (run,) = planned_runs(arms_of(load_family("controlled"), {"dapo": 1}, "demo", {}), tmp_path)
    run.folder.mkdir(parents=True)
    write_json(run.folder / "status.json", {"state": "running"})
    (run.folder / "metrics.jsonl").write_text('{"step": 0}\n', encoding="utf-8")
    with subprocess.Popen(["sleep", "5"]) as process:
        progress = Progress([run], make_console(), running=[Attempt(run, process)])
        begun = progress.seconds_left()
        write_json(run.folder / "status.json", {"state": "finished"})
        ended = progress.seconds_left()
        process.kill()
    assert begun is not None
    assert begun > 0
    assert ended == 0


def test_many_arms_are_listed_by_what_they_differ_in(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"arm{number}" for number in range(8)]
    differences = [
        Difference("averaging", {name: "token_mean" if name == "arm1" else "sequence_mean" for name in names}, True),
        Difference("beta", {name: 0.04 if name == "arm7" else None for name in names}, False),
    ]
    make_console().print(differences_table(differences))
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if "arm" in line and "│" in line}
    assert "averaging token_mean" in lines["arm1"]
    assert "beta 0.04 CONFOUND" in lines["arm7"]
    assert "averaging" not in lines["arm7"] + lines["arm2"]


def test_of_very_many_arms_those_at_work_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arms = [Arm(f"arm{number}", {}, {0: resolve({}, "demo")}) for number in range(30)]
    runs = planned_runs(arms, tmp_path)
    runs[3].folder.mkdir(parents=True)
    write_json(runs[3].folder / "status.json", {"state": "finished"})
    with subprocess.Popen(["sleep", "5"]) as process:
        console = make_console()
        console.print(Progress(runs, console, running=[Attempt(runs[7], process)]).table())
        process.kill()
    printed = capsys.readouterr().out
    assert [name for name in (f"arm{number} " for number in range(30)) if name in printed] == ["arm7 "]
    assert "1 of 30 runs finished; of 30 arms, those at work" in " ".join(printed.split())
