"""pytest -p tests.gpu.record: keeps what the tests found, with hardware and versions, in benchmarks/results.

After eight minutes no further test begins.
"""

import json
import time

import pytest

LIMIT_S = 480.0
NO_TIME = "no time was left"
BEGUN = time.monotonic()
found: list[dict[str, object]] = []


def pytest_runtest_setup() -> None:
    if time.monotonic() - BEGUN > LIMIT_S:
        pytest.skip(NO_TIME)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        why = {"why": report.longreprtext} if report.outcome != "passed" else {}
        about = {"test": report.nodeid, "outcome": report.outcome, "seconds": round(report.duration, 1)}
        found.append(about | dict(report.user_properties) | why)


def pytest_sessionfinish(session: pytest.Session) -> None:
    import torch  # not before jaxtyping has seen that losses are imported

    from benchmarks import page
    from harness.run.environment import gpu_facts

    has_gpu = torch.cuda.is_available()
    about = page.machine("cuda" if has_gpu else "cpu") | (gpu_facts() if has_gpu else {})
    path = page.RESULTS / f"check-{page.named(str(about['device']))}.json"
    path.write_text(json.dumps({"machine": about, "tests": found}, indent=1) + "\n", encoding="utf-8")
    left = sum(str(one.get("why", "")).find(NO_TIME) >= 0 for one in found)
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    print(f"\nsaved: benchmarks/results/{path.name}" + (f"; {left} tests were not run: {NO_TIME}" if left else ""))
