import pytest

from sweeps import Difference
from sweeps.progress import differences_table, make_console


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
