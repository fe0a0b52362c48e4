import subprocess
import sys

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
