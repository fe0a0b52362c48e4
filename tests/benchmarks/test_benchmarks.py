"""The benchmarks measure what they say: their peers compute the same thing, and every figure reaches the table."""

import importlib
import json
from pathlib import Path

import pytest
import torch

from benchmarks import chunked_matrix, coverage, future_kl, logprobs, loss_cost, recording, table
from benchmarks.__main__ import PARTS, main
from benchmarks.table import Row
from harness.model.logprobs import token_logprobs
from losses import future_kl as ours
from tests.harness.agreement import agree
from tests.harness.command_line import outcome
from tests.harness.tiny import cache_as_tiny, small_config


@pytest.mark.parametrize("tokens", [1, 127, 128, 129, 400])
@pytest.mark.parametrize("delta", [None, 1.2])
def test_the_chunked_matrix_is_the_same_future_kl(tokens: int, delta: float | None) -> None:
    generator = torch.Generator().manual_seed(tokens)
    log_ratio = 0.2 * torch.randn(3, tokens, generator=generator, dtype=torch.float64)
    mask = torch.rand(3, tokens, generator=generator) > 0.2
    for decay_rate in (1.0, 32.0, 256.0):
        plain = chunked_matrix.future_kl(log_ratio, mask, decay_rate, delta)
        assert agree(ours(log_ratio, mask, decay_rate, delta), plain, "network")


def test_the_plain_log_probabilities_are_the_same() -> None:
    hidden, head, tokens = logprobs.drawn("cpu", 7, 50)
    results = []
    for function in (logprobs.plain, token_logprobs):
        values, entropy = function(hidden, head, tokens, 0.7)
        results.append([values, entropy, *torch.autograd.grad(values.sum(), (hidden, head))])
    for plain, chunked in zip(*results, strict=True):
        assert agree(chunked.detach(), plain.detach(), "network")


def test_future_kl_is_timed_beside_the_published_algorithm() -> None:
    rows = list(future_kl.rows("cpu", lengths=(64, 256), rounds=1))
    figures = {row.figure: row.value for row in rows}
    faster = figures["chunked matrix at 256, minimum"] / figures["Future-KL at 256, minimum"]
    assert figures["chunked matrix / Future-KL at 256"] == pytest.approx(faster)
    assert all(row.value > 0 for row in rows)


def test_losses_are_timed_forward_and_backward() -> None:
    rows = {row.figure: row for row in loss_cost.rows("cpu", length=64, rounds=1)}
    ratio = (
        rows["FIPO forward and backward at 64, minimum"].value / rows["DAPO forward and backward at 64, minimum"].value
    )
    assert rows["FIPO / DAPO at 64"].value == pytest.approx(ratio)
    assert rows["FIPO / DAPO at 64"].target == "at most 1.6"


def test_log_probabilities_are_measured_in_processes_of_their_own() -> None:
    rows = {row.figure: row for row in logprobs.rows("cpu", tokens=300, vocabulary=30_000, runs=1)}
    plain = rows["plain, peak memory above the inputs"].value
    # the logits, their log-softmax and the gradient of one of them, at least
    assert plain > 3 * 4 * 300 * 30_000 / 1e6
    assert rows["largest relative difference of the norms of values and gradients"].verdict == "met"


@pytest.mark.parametrize(
    ("row", "target", "verdict"),
    [
        (Row("a", 4.0, "", at_most=4.0), "at most 4", "met"),
        (Row("a", 4.1, "", at_most=4.0), "at most 4", "NOT MET"),
        (Row("a", 2000.0, "", at_least=2000.0), "at least 2,000", "met"),
        (Row("a", 1999.0, "", at_least=2000.0), "at least 2,000", "NOT MET"),
        (Row("a", 1.0, ""), "", ""),
    ],
)
def test_a_target_is_met_or_not(row: Row, target: str, verdict: str) -> None:
    assert (row.target, row.verdict) == (target, verdict)
    line = table.printed([row]).splitlines()[1]
    assert line.endswith(verdict)
    assert target in line


def test_results_are_kept_with_hardware_and_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    rows = {"size": [Row("a", 1.5, "times", at_most=2.0)], "runs": [], "losses": [Row("b", 1.0, "s")]}
    path = table.saved(rows, "cpu", "speed")
    assert path.name.startswith("speed-")
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["machine"]["torch"] == torch.__version__
    assert content["machine"]["device"]
    assert [(row["part"], row["figure"], row["verdict"]) for row in content["rows"]] == [
        ("size", "a", "met"),
        ("losses", "b", ""),
    ]
    alone = json.loads(table.saved(rows["size"], "cpu", "search").read_text(encoding="utf-8"))
    assert [row["part"] for row in alone["rows"]] == ["search"]


def test_without_ms_swift_its_peer_says_what_to_install() -> None:
    with pytest.raises(ImportError, match=r"expected ms-swift 4\.6\.0, found none: pip install"):
        importlib.import_module("benchmarks.peers.ms_swift")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nothing"], f"expected parts among {', '.join(PARTS)}, got 'nothing'"),
        (["losses", "--save"], "--save keeps one record of all parts: leave the parts out"),
    ],
)
def test_wrong_use_is_one_line(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused = outcome(main, words, capsys)
    assert (refused.exit_code, refused.errors) == (2, [f"error: {expected}"])


@pytest.mark.train
def test_recording_is_observed_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIPO_HARNESS_CACHE", str(tmp_path))
    cache_as_tiny(tmp_path)
    lines, memory = recording.observed(small_config(steps=3))
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert len(memory) == 3
    assert min(memory) > 100  # MiB; torch alone has more
    assert 0 < sum(float(line["time/record_s"] or 0) for line in lines) < float(lines[-1]["time/elapsed_s"] or 0)


def test_the_simulation_is_of_the_projects_own_functions_and_reaches_its_page() -> None:
    """Each cell compares a sample with analysis's functions itself; the page has a row for each."""
    found = list(coverage.cells(repetitions=60))
    assert all(0 <= cell.value <= 100 for cell in found)
    page = coverage.page(found)
    assert page.count("\n| ") - 1 == len(found)
    assert coverage.Cell("a", "b", 3, 93.9, 94, 96).verdict == "MISSED"
    assert coverage.Cell("a", "b", 3, 94.0, 94, 96).verdict == "met"


def test_a_target_may_have_two_ends() -> None:
    assert [Row("a", value, "%", 96, 94).verdict for value in (93.0, 95.0, 97.0)] == ["NOT MET", "met", "NOT MET"]
