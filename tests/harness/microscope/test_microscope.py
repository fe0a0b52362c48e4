import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.__main__ import main
from harness.compare.repeat import begin_repeat
from harness.microscope.candidates import KNOWN, SHIPPED, config_of, probes, ranked
from harness.microscope.measure import Plan, run_microscope
from harness.microscope.values import Credit
from harness.run.history import read_history
from harness.run.record import RunFolder
from tests.harness import runs
from tests.harness.command_line import outcome
from tests.harness.tiny import SCAFFOLD, small_config

pytestmark = pytest.mark.train

BUDGET = {"steps": "1,2", "updates": 4, "responses": 32, "group": 4, "prefixes": 3, "continuations": 4}
SMALL = [word for name, value in BUDGET.items() for word in (f"--{name}", str(value))]
OWN_LOSS = """
from dataclasses import dataclass
from losses import DAPO

@dataclass(frozen=True, kw_only=True)
class Mine(DAPO):
    epsilon_high: float = 0.28
    delta: float = 10.0

class Needy:
    def __init__(self, epsilon): ...
"""


@pytest.fixture(scope="module")
def run(model_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps of DAPO with four updates each."""
    changes = {"loss_type": "dapo", "epsilon_high": 0.28, "steps": 3}
    config = small_config(model_folder, **SCAFFOLD | changes)
    return runs.trained(config, tmp_path_factory.mktemp("runs") / "dapo").path


@pytest.fixture(scope="module")
def looked(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the microscope wrote about it, with every candidate and a loss of one's own."""
    folder = tmp_path_factory.mktemp("microscope")
    (folder / "mine.py").write_text(OWN_LOSS, encoding="utf-8")
    names = f"{','.join(KNOWN)},{folder / 'mine.py'}:Mine"
    main(["microscope", str(run), *SMALL, "--losses", names, "--output_dir", str(folder / "out")])
    return folder / "out"


def lines(folder: Path, step: int) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, Any]]] = json.loads((folder / f"step_{step:06d}.json").read_text(encoding="utf-8"))
    return found["lines"]


def table(folder: Path, step: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / f"tokens_{step:06d}.parquet").to_pylist()
    return rows


def test_the_runs_own_loss_has_the_gradient_that_the_run_took(run: Path, looked: Path) -> None:
    """The run recorded the mean norm of a step's updates; the microscope leaves out the first."""
    repeat = begin_repeat(read_history(run), 0)
    for number, metrics in enumerate(runs.metrics(RunFolder(run))):
        step, norms = repeat.next_step(), []
        for _, index in step.updates(repeat.config.optimizer.epochs):
            norms.append(float(repeat.training.updater.gradient(step.minibatches[index], step.known[index]).norm))
            repeat.update(step, index)
        repeat.training.steps_done += 1
        assert sum(norms) / len(norms) == pytest.approx(metrics["optimizer/grad_norm"], rel=1e-12)
        if number > 0:
            assert [line["norm"] for line in lines(looked, number) if line["candidate"] == "dapo"] == norms[1:]


def test_candidates_that_are_the_same_have_the_same_gradient(looked: Path) -> None:
    for line in lines(looked, 1) + lines(looked, 2):
        if line["candidate"] == "dapo":
            dapo = line
        if line["candidate"] == "Mine":
            assert {**line, "candidate": "dapo"} == dapo
        if line["candidate"] == "fipo_wide":
            assert line["norm"] != dapo["norm"]


def test_rows_say_what_each_segment_was_worth_and_weighted_by(looked: Path) -> None:
    rows = table(looked, 2)
    for row in rows:
        assert row["weight/dapo"] == 1
        assert row["weight/negatives_half"] == (0.5 if row["advantage"] < 0 else 1)
        assert 0.5 <= row["weight/fipo_wide"] <= 1.5
        assert {row["credit_first"], row["credit_second"]} <= {half / 2 for half in range(-2, 3)}
    first = [row for row in rows if (row["prompt_id"], row["sample"]) == (rows[0]["prompt_id"], rows[0]["sample"])]
    of_update = [row for row in first if row["update"] == rows[0]["update"]]
    assert sum(row["tokens"] for row in of_update) == rows[0]["response_tokens"]
    assert [row["start"] for row in of_update] == sorted({row["start"] for row in of_update})


def test_the_same_command_goes_on(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["microscope", run, *SMALL, "--losses", "fipo", "--output_dir", tmp_path / "out"]
    assert outcome(main, command, capsys).exit_code == 0
    whole = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    (tmp_path / "out" / "step_000002.json").unlink()
    ended = outcome(main, command, capsys)
    assert "1 of 2 steps" in ended.printed[0]
    assert "old log-probabilities within 0 of those recorded" in ended.printed
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == whole
    other = outcome(main, [*command, "--continuations", "6"], capsys)
    assert other.exit_code == 2
    assert "another plan: name another with --output_dir" in other.errors[0]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--steps", "3"], "--steps: expected numbers of steps, 0 to 2 in"),
        (["--losses", "ppo"], "--losses: expected all, FILE.py:CLASS or names among grpo, dapo"),
        (
            ["--losses", "nowhere.py:Mine"],
            "--losses: nowhere.py does not run: FileNotFoundError: ",
        ),
        (["--losses", "mine.py:Needy"], "Needy: expected a class that needs no arguments, got: "),
        (["--losses", "mine.py:dapo"], "dapo: expected a name that no other candidate has: rename the class"),
        (["--continuations", "3"], "--continuations: expected an even number of them, got 3"),
        (["--responses", "33"], "--responses 33 and --group 4: expected two halves of whole groups"),
        (["--updates", "0"], "--updates: expected 1 or more, got 0"),
    ],
)
def test_wrong_use_writes_nothing(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN_LOSS, encoding="utf-8")
    ended = outcome(main, ["microscope", run, *SMALL, *flags, "--output_dir", tmp_path / "out"], capsys)
    assert ended.exit_code == 2
    assert said in ended.errors[0]
    assert not (tmp_path / "out").exists()


def test_a_run_without_rollouts_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    (copied / "rollouts" / "step_000001.parquet").unlink()
    ended = outcome(main, ["microscope", copied, *SMALL], capsys)
    assert ended.exit_code == 2
    assert "expected stored rollouts" in ended.errors[0]


@pytest.mark.parametrize(("updates", "chosen"), [(1, [0]), (4, [1, 2, 3]), (16, [1, 5, 10, 15]), (8, [1, 3, 5, 7])])
def test_updates_are_spread_over_the_step(updates: int, chosen: list[int]) -> None:
    assert Plan((0,), 4, 32, 4, 3, 4).chosen(updates) == chosen


def test_equal_credit_has_equal_weight() -> None:
    assert ranked(np.array([0.2, 0.0, 0.0, 0.5, 0.0])).tolist() == [1.25, 0.75, 0.75, 1.5, 0.75]
    assert ranked(np.array([0.2])).tolist() == [1.0]


def test_what_each_candidate_multiplies_advantages_by(run: Path) -> None:
    """At an off-policy minibatch, with credit that rises from token to token of every response."""
    repeat = begin_repeat(read_history(run), 1)
    step = repeat.next_step()
    repeat.update(step, 0)
    names = ("dapo", "fipo_wide", "wide_own", "wide_signed", "true_ranks", "true_advantages", "negatives_none")
    candidates = {name: SHIPPED[name] for name in names}
    found = probes(candidates, step.groups, repeat.training.task, repeat.training.updater)
    credits = {
        response.key: Credit(list(range(count)), np.tile(np.linspace(0, 0.5, count) ** 2, (2, 1)), outcome=True)
        for group in step.groups
        for response in group
        for count in [len(response.tokens)]
    }
    seen = {name: probe.measure(1, step.known[1], credits)[1] for name, probe in found.items()}
    (batch,) = step.minibatches[1]
    for response, advantage in zip(batch.responses, batch.group_advantages, strict=True):
        weights = {name: columns["weight"][response.key] for name, columns in seen.items()}
        log_ratio, future = (seen["fipo_wide"][name][response.key] for name in ("log_ratio", "future_kl"))
        sign = np.sign(advantage)
        np.testing.assert_allclose(weights["fipo_wide"], np.exp(future).clip(0.5, 1.5), rtol=1e-5)
        np.testing.assert_allclose(weights["wide_own"], np.exp(log_ratio).clip(0.5, 1.5), rtol=1e-5)
        np.testing.assert_allclose(weights["wide_signed"], np.exp(sign * future).clip(0.5, 1.5), rtol=1e-5)
        np.testing.assert_allclose(weights["negatives_none"], float(sign > 0))
        own = credits[response.key].by_token(len(response.tokens))
        np.testing.assert_allclose(weights["true_advantages"] * advantage, own, rtol=1e-5)
        if len(own) > 1:
            best, worst = (weights["true_ranks"][place(sign * own)] for place in (np.argmax, np.argmin))
            assert (best, worst) == (pytest.approx(1.5), pytest.approx(0.5))


def test_a_run_with_a_placebo_is_measured_with_the_losses_own_weights(model_folder: str, tmp_path: Path) -> None:
    changes = {"loss_type": "fipo", "placebo": "sign_mean", "fipo_decay_rate": 4.0}
    config = small_config(model_folder, **SCAFFOLD | changes)
    assert config_of(SHIPPED["fipo"], config).loss.placebo == "none"
    assert config_of(SHIPPED["fipo"], config).loss.fipo_decay_rate == 32
    assert config_of(SHIPPED["wide_sign_mean"], config).loss.placebo == "sign_mean"
    folder = runs.trained(config, tmp_path / "run")
    main(["microscope", str(folder.path), *SMALL, "--steps", "1", "--losses", "wide_own,wide_signed,wide_sign_mean"])
    assert lines(folder.path / "microscope", 1)


def test_a_step_without_updates_is_written_as_such(run: Path, tmp_path: Path, looked: Path) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    path = copied / "rollouts" / "step_000002.parquet"
    rows = pq.read_table(path)
    untrained = rows.set_column(rows.column_names.index("trained"), "trained", pa.array([False] * len(rows)))
    pq.write_table(untrained, path)
    plan = Plan((2,), 4, 32, 4, 3, 4)
    assert list(run_microscope(read_history(copied), plan, "fipo", tmp_path / "out")) == [[]]
    empty, full = (pq.read_schema(folder / "tokens_000002.parquet") for folder in (tmp_path / "out", looked))
    assert pq.read_table(tmp_path / "out" / "tokens_000002.parquet").num_rows == 0
    assert all(full.field(field.name) == field for field in empty)
