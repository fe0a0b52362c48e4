"""Tries every small change of losses/ against these tests: `python -m tests.losses.mutants [part of a file's name]`.

Exits with 1 where a mutant survives that equivalent_mutants.toml does not explain, or where it explains one that no
longer survives. mutmut and cosmic-ray were tried: mutmut imports losses/ before the tests' shape checks can wrap it and
leaves out decorated functions and defaults, cosmic-ray starts python anew for each mutant, which is an hour of imports.
"""

import os
import shutil
import sys
import tempfile
import tomllib
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import hypothesis
import numpy
import pytest
import torch

from tests.losses.small_changes import small_changes

ROOT = Path(__file__).parents[2]
LOSSES = ROOT / "losses"
EXPLAINED = Path(__file__).with_name("equivalent_mutants.toml")
FORK = get_context("fork")
PROCESSES = 2
LIMIT_S = 300.0
# these notice most in the shortest time; the others are read and run only where they all pass
FIRST = ("rivals_by_hand", "by_hand", "settings", "future_kl", "advantages", "averaging", "golden")
IMPORTED = (hypothesis, numpy, torch)  # once, before the processes are forked

Key = tuple[str, str, str]


def stages(tree: Path) -> list[list[str]]:
    """The copy's test files in the order in which they are run."""
    names = {path.stem.removeprefix("test_"): str(path) for path in sorted((tree / "tests/losses").rglob("test_*.py"))}
    return [[names[name] for name in FIRST], [path for name, path in names.items() if name not in FIRST]]


def copy_of_the_repository() -> Path:
    """This process's own copy of what the tests need."""
    tree = Path(tempfile.gettempdir()) / f"small_changes_{os.getppid()}" / str(os.getpid())
    if not tree.exists():
        shutil.copytree(ROOT / "losses", tree / "losses")
        shutil.copytree(ROOT / "tests" / "golden", tree / "tests" / "golden")
        shutil.copytree(ROOT / "tests" / "losses", tree / "tests" / "losses")
        for name in ("pyproject.toml", "tests/__init__.py"):
            shutil.copy(ROOT / name, tree / name)
    return tree


def run_tests(tree: Path, files: list[str]) -> None:
    """Run some of the copy's tests up to the first failure; the exit code is pytest's."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    os.chdir(tree)
    sys.path[0] = str(tree)
    # a failing example is enough: no time for a smaller one
    hypothesis.settings.register_profile("first failure", phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate])
    hypothesis.settings.load_profile("first failure")
    for name in [name for name in sys.modules if name.split(".")[0] in ("losses", "tests")]:
        del sys.modules[name]
    options = ["-x", "--tb=no", "-p", "no:cacheprovider"]
    os._exit(pytest.main([*options, "-W", "ignore::pytest.PytestAssertRewriteWarning", *files]))


def survives(module: str, code: str) -> bool:
    """Whether all tests pass with this code in place of the module's."""
    torch.set_num_threads(1)
    tree = copy_of_the_repository()
    path = tree / "losses" / module
    original = path.read_text()
    path.write_text(code)
    # python tells stale byte code by size and whole seconds, which a mutant need not change
    shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
    passed = all(passes(tree, files) for files in stages(tree))
    path.write_text(original)
    return passed


def passes(tree: Path, files: list[str]) -> bool:
    """Whether these tests of the copy pass, in a process of their own; a run without end does not."""
    process = FORK.Process(target=run_tests, args=(tree, files))
    process.start()
    process.join(LIMIT_S)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode == 0


def explanations() -> dict[Key, str]:
    """The reason of each mutant that changes nothing a test on this machine can see."""
    entries = tomllib.loads(EXPLAINED.read_text())["mutant"]
    return {(entry["where"], entry["code"], entry["mutant"]): entry["reason"] for entry in entries}


def main(chosen: str) -> int:
    """Try the mutants of the modules whose name contains `chosen`."""
    modules = {str(path.relative_to(LOSSES)): path.read_text() for path in LOSSES.rglob("*.py") if chosen in path.name}
    if not modules:
        print(f"error: expected part of the name of a file in losses/, got {chosen!r}: nothing was tried")
        return 2
    mutants = [(name, mutant) for name, source in modules.items() for mutant in small_changes(source)]
    survivors, explained = set(), explanations()
    with ProcessPoolExecutor(PROCESSES, mp_context=FORK) as pool:
        if not pool.submit(survives, "__init__.py", (LOSSES / "__init__.py").read_text()).result():
            print("error: expected the tests to pass without a mutant, got a failure: run pytest tests/losses")
            return 2
        trials = {pool.submit(survives, name, mutant.code): (name, mutant) for name, mutant in mutants}
        for done, trial in enumerate(as_completed(trials), start=1):
            name, mutant = trials[trial]
            key = (f"{name}: {mutant.function}", mutant.old, mutant.new)
            if trial.result():
                survivors.add(key)
                if key not in explained:
                    print(f"\rsurvived: losses/{name}:{mutant.line}\n  - {mutant.old}\n  + {mutant.new}")
            print(f"\r{done} of {len(mutants)} mutants, {len(survivors)} survived ", end="", flush=True)
    shutil.rmtree(Path(tempfile.gettempdir()) / f"small_changes_{os.getpid()}", ignore_errors=True)
    stale = {key for key in explained.keys() - survivors if key[0].split(":")[0] in modules}
    for where, _, mutant in sorted(stale):
        print(f"\nexplained, but noticed or gone: {where}\n  + {mutant}")
    unexplained = survivors - explained.keys()
    print(f"\n{len(survivors)} survived, {len(unexplained)} of them without explanation")
    return int(bool(unexplained or stale))


if __name__ == "__main__":
    sys.exit(main("".join(sys.argv[1:])))
