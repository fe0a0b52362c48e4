"""The wheel, unpacked and used from an empty folder: its files, its command, and the snippet of docs/notebook.md."""

import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import fipo_harness
from fipo_harness.__main__ import COMMANDS
from fipo_harness.notebook import Recorded, Report
from harness import UsageError, spelled
from harness.__main__ import main
from tests.harness.command_line import outcome
from tests.harness.tiny import as_tiny

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = ("fipo_harness", "losses", "harness", "sweeps", "analysis")
SNIPPET = re.search(r"```python\n(.*?)```", (ROOT / "docs/notebook.md").read_text(encoding="utf-8"), re.DOTALL)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Installed:
    """An unpacked wheel, and an empty folder to work in."""

    wheel: Path
    packages: Path
    place: Path
    environment: Mapping[str, str]

    def python(self, code: str, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run code in a fresh process that knows of no checkout."""
        command = [sys.executable, "-c", code, *words]
        return subprocess.run(
            command, cwd=self.place, env={**self.environment, **changes}, text=True, capture_output=True, check=False
        )

    def command(self, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run `fipo-harness WORDS` as the script does that pip writes."""
        found = next(iter(importlib.metadata.distributions(path=[str(self.packages)])))
        module, name = found.entry_points["fipo-harness"].value.split(":")
        return self.python(f"import sys; from {module} import {name}; sys.exit({name}())", *words, **changes)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The checkout built offline, as pip builds it, and unpacked as if from a git address."""
    source, packages, place = (tmp_path_factory.mktemp(name) for name in ("source", "packages", "empty"))
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "import setuptools.build_meta as build; build.build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    wheel = next(source.glob("*.whl"))
    zipfile.ZipFile(wheel).extractall(packages)
    origin = {"url": "https://example.invalid/repository", "vcs_info": {"vcs": "git", "commit_id": COMMIT}}
    next(packages.glob("*.dist-info")).joinpath("direct_url.json").write_text(json.dumps(origin), encoding="utf-8")
    with as_tiny(tmp_path_factory.mktemp("cache")):
        return Installed(wheel, packages, place, {**os.environ, "PYTHONPATH": str(packages)})


@pytest.fixture(scope="module")
def notebook(installed: Installed) -> Installed:
    """After docs/notebook.md's snippet, run as it is printed; what a notebook shows is in two files."""
    assert SNIPPET
    (installed.place / "snippet.py").write_text(SNIPPET[1], encoding="utf-8")
    shows = "".join(f"open('{name}.html', 'w').write(names['{name}']._repr_html_())\n" for name in ("study", "page"))
    ended = installed.python(f"import runpy\nnames = runpy.run_path('snippet.py')\n{shows}")
    assert ended.returncode == 0, ended.stderr
    return installed


def test_the_wheel_holds_every_file_of_the_packages_and_no_other(installed: Installed) -> None:
    files = (path for name in PACKAGES for path in (ROOT / name).rglob("*") if "__pycache__" not in path.parts)
    wanted = {path.relative_to(ROOT).as_posix() for path in files if path.is_file()}
    held = {name for name in zipfile.ZipFile(installed.wheel).namelist() if ".dist-info/" not in name}
    assert held == wanted


def test_the_wheel_says_its_licence_and_the_citation_its_version(installed: Installed) -> None:
    (distribution,) = importlib.metadata.distributions(path=[str(installed.packages)])
    assert distribution.metadata["License-Expression"] == PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in (distribution.read_text("licenses/LICENSE") or "")
    assert f"version: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


@pytest.mark.parametrize("package", COMMANDS)
def test_it_has_the_commands_of_every_package(package: str) -> None:
    ended = subprocess.run([sys.executable, "-m", package, "x"], cwd=ROOT, text=True, capture_output=True, check=False)
    known = set(re.findall(r"[\w-]+", ended.stderr.partition("choose from")[2].partition(")")[0]))
    assert known == set(COMMANDS[package])


def test_help_lists_all_commands_and_a_wrong_one_names_its_nearest(installed: Installed) -> None:
    printed = installed.command("--help").stdout
    assert all(f"\n  {name} " in printed for commands in COMMANDS.values() for name in commands)
    wrong = installed.command("trian")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.endswith("did you mean train?\n")


def test_help_and_errors_name_what_was_typed(installed: Installed) -> None:
    assert installed.command("train", "--help").stdout.startswith("usage: fipo-harness train ")
    assert "see fipo-harness search --help" in installed.command("search", "--xyzzy").stderr
    assert "(see fipo-harness report --help)" in installed.command("report").stderr


RUN_HARNESS = "import runpy; runpy.run_module('harness', run_name='__main__', alter_sys=True)"


@pytest.mark.parametrize(("package", "is_module"), [("losses", False), ("harness", False), ("losses", True)])
def test_a_package_that_shadows_one_is_named_in_one_line(
    installed: Installed, tmp_path: Path, package: str, is_module: bool
) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    path, words = f"{tmp_path}{os.pathsep}{installed.packages}", ("show", "demo")
    run = partial(installed.python, RUN_HARNESS) if is_module else installed.command
    ended = run(*words, PYTHONPATH=path)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"error: package {package!r}")
    assert str(installed.packages) in line
    assert str(tmp_path / package) in line


@pytest.mark.train
def test_the_snippet_leaves_a_run_a_study_and_its_report(notebook: Installed) -> None:
    runs = notebook.place / "runs"
    assert sorted(path.name for path in runs.iterdir()) == ["one", "pair"]
    study, page = ((notebook.place / f"{name}.html").read_text(encoding="utf-8") for name in ("study", "page"))
    assert study.count("<td>finished</td>") == 4
    assert "accuracy after" in study
    assert "runs/pair" in study
    assert page.count("<img ") == 1
    assert "<li>Undecided: fewer than 5 seeds. FIPO learns faster than DAPO" in page
    assert "runs/pair/report/report.html" in page


@pytest.mark.train
def test_a_run_from_the_command_is_the_notebooks_bit_for_bit(notebook: Installed) -> None:
    flags = "--preset demo --loss_type fipo --delta 10 --steps 2 --prompts_per_step 4 --group_size 4 --minibatches 2"
    ended = notebook.command("train", *flags.split(), "--eval_prompts", "8", "--output_dir", "typed")
    assert ended.returncode == 0, ended.stderr
    one, typed = notebook.place / "runs/one", notebook.place / "typed"
    own = ("config.json", "environment.json")  # these name the folder and the process
    first, second = (
        [line for line in (run / "records.sha256").read_text(encoding="utf-8").splitlines() if not line.endswith(own)]
        for run in (one, typed)
    )
    assert first == second != []
    environment = json.loads((typed / "environment.json").read_bytes())
    assert (environment["commit"], environment["dirty_diff_sha256"]) == (COMMIT, None)


@pytest.mark.train
def test_what_a_notebook_shows_is_escaped(notebook: Installed, tmp_path: Path) -> None:
    folder = tmp_path / "<b>one"
    shutil.copytree(notebook.place / "runs/one", folder)
    page = tmp_path / "page.html"
    page.write_text("<p>", encoding="utf-8")
    for shown in (Recorded(folder)._repr_html_(), Report(page, ("<b>",))._repr_html_()):
        assert "<b>" not in shown
        assert "&lt;b&gt;" in shown


@pytest.mark.parametrize("settings", [{"group_sise": 4}, {"steps": 0}, {"bf16": True}])
def test_what_train_refuses_it_refuses_with_the_commands_line(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ((name, value),) = settings.items()
    _, _, (line,) = outcome(main, ["train", f"--{name}={spelled(value)}", "--output_dir", "out"], capsys)
    with pytest.raises(UsageError) as refused:
        fipo_harness.train(**settings, output_dir="out")
    assert f"error: {refused.value}" == line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.train
def test_an_interrupt_lets_the_run_save(installed: Installed) -> None:
    code = "from fipo_harness import train; train(preset='demo', steps=1000, output_dir='long')"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=installed.place,
        env=installed.environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout
    next(line for line in process.stdout if re.match(r"step +1/", line))
    os.killpg(process.pid, signal.SIGINT)
    process.communicate()
    status = json.loads((installed.place / "long/status.json").read_bytes())
    assert (process.returncode, status["state"], status["exit_code"]) == (-signal.SIGINT, "preempted", 75)
    assert list((installed.place / "long/checkpoints").glob("step_*"))
