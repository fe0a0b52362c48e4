import pytest

from harness import Difference
from sweeps.study.tables import blocks_table, differences_table
from sweeps.workers.progress import make_console


def test_arms_are_listed_by_what_they_differ_in_and_confounds_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"arm{number}" for number in range(8)]
    differences = [
        Difference("averaging", {name: "token_mean" if name == "arm1" else "sequence_mean" for name in names}, True),
        Difference("beta", {name: 0.04 if name == "arm7" else None for name in names}, False),
    ]
    make_console().print(differences_table(differences))
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if "arm" in line and "│" in line}
    assert "averaging token_mean (sequence_mean)" in lines["arm1"]
    assert "CONFOUND" not in lines["arm1"]
    assert "beta 0.04 (-) CONFOUND" in lines["arm7"]
    assert "averaging" not in lines["arm7"] + lines["arm2"]


def test_blocks_are_listed_with_what_they_vary(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [{"arm": "fipo", "level": [low, high], "cell": "c"} for low in (1, 2) for high in (3, 4)]
    one = {"question": "Does it matter?", "varied": ["a", "b"], "cells": cells, "seeds": 5}
    two = {"question": "Is it the same?", "varied": [], "cells": [{"arm": "dapo", "level": None}], "seeds": 3}
    make_console().print(blocks_table({"title": "t", "blocks": {"one": one, "two": two}}))
    lines = [line for line in capsys.readouterr().out.splitlines() if "?" in line]
    assert ["a, b: [1, 3], [1, 4], [2, 3], [2, 4]" in line for line in lines] == [True, False]
    assert "None" not in lines[1]
