"""Several hosts: a PostgreSQL that the test starts itself, two controllers with folders of their own, one killed."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import free_port
from sweeps.search.samplers import design, sampler_of
from sweeps.search.spaces import load_space
from sweeps.search.study import LossStudy, open_storage
from tests.faults.amount import THOROUGH
from tests.sweeps.search.searching import arguments, controller, finished, rows
from tests.waiting import LONG_S

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(not THOROUGH, reason="it waits a minute for a heartbeat: a part of make test-faults"),
]


def binaries() -> Path | None:
    """Where initdb and postgres are: on PATH, or where Debian puts them."""
    found = [Path(path).resolve().parent for path in [shutil.which("initdb")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in found if (folder / "postgres").exists()), None)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[str]:
    """The URL of a PostgreSQL of the test's own."""
    programs = binaries()
    if programs is None:
        reason = "no PostgreSQL on this machine: several hosts were NOT tested; apt install postgresql"
        capture = pytestconfig.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print(f"\nWARNING: {reason}")
        pytest.skip(reason)
    folder, port = tmp_path_factory.mktemp("postgres"), free_port()
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    as_user = ["runuser", "-u", user, "--"] if user else []
    data = Path("/tmp") / f"fipo-postgres-{port}"  # pytest's folders are closed to other users
    data.mkdir()
    if user:
        shutil.chown(data, user)
    log = (folder / "log").open("ab")
    initialise = [*as_user, str(programs / "initdb"), "-D", str(data / "db"), "-U", "fipo", "-A", "trust", "-N"]
    subprocess.run(initialise, check=True, stdout=log, stderr=log, cwd="/")
    options = ["-D", str(data / "db"), "-p", str(port), "-k", str(data), "-h", "127.0.0.1", "-F"]
    server = subprocess.Popen([*as_user, str(programs / "postgres"), *options], stdout=log, stderr=log, cwd="/")
    try:
        ready = [str(programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(port)]
        deadline = time.monotonic() + 60
        while subprocess.run(ready, capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, (folder / "log").read_text(encoding="utf-8")
            time.sleep(0.1)
        yield f"postgresql://fipo@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait(LONG_S)
        log.close()
        shutil.rmtree(data, ignore_errors=True)


def test_two_controllers_share_a_search_and_one_is_killed(database: str, model_folder: str, tmp_path: Path) -> None:
    hosts = [tmp_path / "one", tmp_path / "two"]  # two folders, since both are on this host
    for host in hosts:
        host.mkdir()
    changes = {"trials": 3, "steps": 3, "slots": 1, "storage": database, "study_name": "shared", "sampler": "qmc"}
    commands = [arguments(host, model_folder, **changes) for host in hosts]
    # the space and the preset are one file for both, as they would be in a checkout
    commands[1] = [word.replace(str(hosts[1]), str(hosts[0])) for word in commands[1]]
    commands[1][commands[1].index("--study") + 1] = str(hosts[1] / "study")
    first, second = (controller(command, host / "log") for command, host in zip(commands, hosts, strict=True))
    while not list(hosts[0].glob("study/runs/*/metrics.jsonl")):
        assert first.poll() is None, (hosts[0] / "log").read_text(encoding="utf-8")
        time.sleep(0.05)
    first.kill()
    first.wait()
    assert second.wait(LONG_S) == 0, (hosts[1] / "log").read_text(encoding="utf-8")
    found = rows(hosts[1] / "study")
    assert [row["state"] for row in found] == ["finished"] * 3
    space = load_space(str(hosts[0] / "space.toml"), "dapo")
    planned = design(space, "qmc", 3, 0) or []
    assert [row["param.lr"] for row in found] == [values["lr"] for values in planned]
    # what each has finished is what the storage counts: none ran on both but the one that was taken over
    assert len(finished(hosts[0] / "study") & finished(hosts[1] / "study")) <= 1
    study = LossStudy(open_storage(database, tmp_path), "shared/dapo", sampler_of("qmc", 3, 0))
    assert sum(trial.state.name == "COMPLETE" for trial in study.trials()) == 3
