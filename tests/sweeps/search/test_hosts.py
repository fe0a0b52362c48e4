"""Several hosts: two controllers with folders of their own and one database, one of them killed."""

import time
from pathlib import Path

import pytest

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


def test_two_controllers_share_a_search_and_one_is_killed(model_folder: str, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/optuna.db"
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
