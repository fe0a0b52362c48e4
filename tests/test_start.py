import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "transformers", "numpy", "scipy", "pandas", "pyarrow", "matplotlib", "mlflow", "optuna"}


@pytest.mark.parametrize(
    "words",
    [
        "fipo_harness --help",
        "fipo_harness train --help",
        "harness train --help",
        "harness train --zzz",
        "sweeps search --help",
        "sweeps compare --zzz",
        "analysis --help",
    ],
)
def test_a_command_that_computes_nothing_imports_nothing_heavy(words: str) -> None:
    package, *arguments = words.split()
    code = (
        f"import runpy, sys; sys.argv = {[package, *arguments]!r}\n"
        f"try: runpy.run_module({package!r}, run_name='__main__')\n"
        f"except SystemExit as end: print(end.code, sorted({HEAVY!r} & sys.modules.keys()))"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, stderr=subprocess.DEVNULL)
    assert printed.splitlines()[-1] == f"{2 if '--zzz' in words else 0} []"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fipo-harness repo", ["report"]),
        ("fipo-harness train --lora_", ["--lora_rank", "--lora_alpha"]),
        ("fipo-harness search --trial", ["--trials"]),
        ("fipo-harness figures x --wid", ["--width"]),
    ],
)
def test_a_shell_completes_commands_and_flags(tmp_path: Path, line: str, words: list[str]) -> None:
    answer = tmp_path / "answer"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    command = [sys.executable, "-m", "fipo_harness"]
    subprocess.run(command, env=os.environ | asked | {"_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}, check=True)
    assert [word.strip() for word in answer.read_text().splitlines()] == words
