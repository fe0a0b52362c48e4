import importlib.util
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from harness.errors import HarnessError, UsageError
from harness.tasks import workers as worker_processes
from harness.tasks.math.answers import MAX_ANSWER_CHARACTERS
from harness.tasks.math.checker import EQUALITY, MathChecker
from harness.tasks.task import Grade
from harness.tasks.workers import Workers
from tests.waiting import wait_until

HUNG = "(" * 60 + "x" + ")" * 60  # ten times the `HURRY_S` of the tests in CPU time for the parser; 70 are too deep
HURRY_S = 0.8
ROOT = Path(__file__).parents[3]

# gold | answer @ gold | answer ...
RIGHT = r"""
    5 | 5 @ $5$ | 5 @ 5 | {5} @ 5 | \text{5} @ 5.00 | 5 @ 0.5 | \frac{1}{2} @ \frac13 | 1/3 @
    1.5 \times 10^{5} | 150000 @ 12345 | 12\,345 @ 12345 | 12,345 @ 0.1 | 10\% @ 10\% | 0.1 @ 1 | x = 1 @ 1 | f(x)=1 @
    x=1 | 1 @ 5 | 5\text{ cm}^2 @ 5 \text{ cm} | 5 @ 90 | 90^\circ @ 90^\circ | 90\text{ degrees} @ 101_2 | 101_{2} @
    \$5 | 5 @ Monday | \text{Monday} @ (1,2) | (1, 2) @ 1,2 | \{2,1\} @ 4,6 | 5\pm1 @ x<3 | 3>x @ \infty | +\infty @
    (1,2)\cup(3,4) | (3,4)\cup(1,2) @ \begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix}1\\\frac{4}{2}\end{pmatrix} @
    \sum_{k=1}^{3} k | 6
"""
# the same by the reason that is given
WRONG: dict[str | None, str] = {
    None: r"""
        5 | 6 @ 357 | 12\,345 @ 10 | 10\% @ 10\% | 10 @ 1/3 | .3333 @ 1/3 | 0.333333333333 @ 0.0000001 | 0.0 @
        \frac{1}{2^{60}} | \frac{1}{3^{60}} @ x=1 | y=1 @ (1,2) | (2,1) @ (1,2) | (1,2] @ (1,2) | 1,2 @ 1,2 | (1,2)
    """,
    "several values": r"5 | 5 or 6 @ 5 | 5\text{ or }6 @ 5 | 5\text{or six} @ 5 | 5;6 @ 4 | 5\pm1",
    "a relation": r"""
        5 | 5=6 @ 5 | 6=5 @ 5 | x=y=5 @ 5 | 5\approx 6 @ \frac{3}{4} | 3:4 @ (-\infty,3) | x<3 @ 6 | \sum_{k=1}^{3} k
    """,
    "an ellipsis": r"1,2,3 | 1,2,3,\ldots",
    "two numbers side by side": r"11 | 5 6 @ 11 | 5\quad 6",
    "words": r"5 | \text{not }5 @ 5 | 5\text{ is wrong}",
    "a base": r"5 | 5_{6}+0 @ 5 | __import__('os').system('exit 1')",
    "another unit": r"101_2 | 101_3 @ 5\text{ cm} | 5\text{ m}",
    "an operation": r"6 | \sum_{k}k",
    "unreadable": r"5 | ((",
}

# gold, answer, why
UNCHECKED = [
    ("5", "9^{9^{9^{9}}}", "too large"),
    ("5", "99999999!", "too large"),
    ("5", "9!!", "too large"),
    ("5", "-" * 500 + "5", "depth"),
    ("))", "5", "unreadable gold"),
    ("1" * (MAX_ANSWER_CHARACTERS + 1), "5", "gold too long"),
]


@pytest.fixture
def hurried(checker: MathChecker, monkeypatch: pytest.MonkeyPatch) -> MathChecker:
    monkeypatch.setattr(checker.workers, "limit_s", HURRY_S)
    return checker


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with closing(Workers(EQUALITY, busy=1, limit_s=60)) as workers:
        yield workers


def boxed(answer: object) -> str:
    return f"\\boxed{{{answer}}}"


def pairs(text: str) -> list[tuple[str, str]]:
    """The golds and answers of a table."""
    return [(gold.strip(), answer.strip()) for gold, answer in (pair.split(" | ") for pair in text.split(" @"))]


def test_each_verdict_and_its_reason(checker: MathChecker) -> None:
    cases = [(gold, Grade("right", answer)) for gold, answer in pairs(RIGHT)]
    for why, text in WRONG.items():
        cases += [(gold, Grade("wrong", answer, why)) for gold, answer in pairs(text)]
    cases += [(gold, Grade("unchecked", answer, why)) for gold, answer, why in UNCHECKED]
    grades = checker.check([(gold, boxed(expected.answer)) for gold, expected in cases])
    found = [(gold, grade) for (gold, _), grade in zip(cases, grades, strict=True)]
    assert [pair for pair in found if pair not in cases] == []


def test_order_is_kept_and_hostile_answers_cost_the_others_nothing(hurried: MathChecker) -> None:
    golds = ["1", "7", "2", "4", "7", "3"]
    answers = ["1", HUNG, r"\frac{4}{2}", "none of these(", HUNG, "3.0"]
    grades = hurried.check([(gold, boxed(answer)) for gold, answer in zip(golds, answers, strict=True)])
    assert [grade.outcome for grade in grades] == ["right", "unchecked", "right", "wrong", "unchecked", "right"]
    assert [grade.answer for grade in grades] == answers
    assert grades[1].why == "time"
    assert hurried.check([]) == []


def test_a_known_verdict_needs_no_worker(checker: MathChecker, monkeypatch: pytest.MonkeyPatch) -> None:
    (grade,) = checker.check([("x", boxed("y^2"))])
    monkeypatch.setattr(MathChecker, "workers", None)
    assert checker.check([("x", boxed("y^2")), ("x", boxed("y^2"))]) == [grade, grade]


@pytest.mark.parametrize(("kills", "why"), [(1, "time"), (2, "crash")])
def test_an_answer_whose_worker_is_killed_is_tried_once_more(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, kills: int, why: str
) -> None:
    (worker,) = workers.workers

    def kill_busy() -> None:
        for _ in range(kills):
            process = worker.process
            wait_until(workers.idle.empty, "no request began")
            process.kill()
            wait_until(lambda process=process: worker.process is not process, "the worker was not replaced")

    monkeypatch.setattr(workers, "limit_s", HURRY_S)
    killer = threading.Thread(target=kill_busy)
    killer.start()
    assert workers.replies([("x", HUNG)]) == [("unchecked", why)]
    killer.join()
    assert workers.replies([("1", "1")]) == [("right", None)]


def test_a_busy_machine_gives_the_same_verdicts(tmp_path: Path) -> None:
    script = tmp_path / "stops.py"  # as if every other process were before it
    script.write_text(
        "import os, signal\ndef reply():\n    os.kill(os.getpid(), signal.SIGSTOP)\n    return 'right', None"
    )
    with closing(Workers(script, busy=1, limit_s=HURRY_S)) as workers, ThreadPoolExecutor(1) as thread:
        replies = thread.submit(workers.replies, [[]])
        process = psutil.Process(workers.workers[0].process.pid)
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED, "no request began")
        time.sleep(2 * HURRY_S)
        process.resume()
        assert replies.result() == [("right", None)]


def test_an_interrupted_batch_leaves_no_reply_for_the_next(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "limit_s", HURRY_S)
    workers.replies([("1", "1")])
    usual = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    with pytest.raises(KeyboardInterrupt):
        workers.replies([("x", HUNG)])
    signal.signal(signal.SIGALRM, usual)
    assert workers.replies([("1", "2"), ("1", "1")]) == [("wrong", None), ("right", None)]


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("raise SystemExit(3)", 3),
        ("import os, threading; os.closerange(0, 99); threading.Event().wait(0.5); os._exit(3)", 3),  # not read from
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ],
    ids=["exits", "closes and exits later", "killed"],
)
def test_workers_that_cannot_start_are_an_error(tmp_path: Path, script: str, code: int) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(script)
    with closing(Workers(broken, busy=1)) as workers, pytest.raises(HarnessError, match=f"exited with code {code}:"):
        workers.replies([("1", "1")] * 2)


def test_a_start_that_a_signal_ended_is_made_again(tmp_path: Path) -> None:
    script, seen = tmp_path / "script.py", tmp_path / "seen"
    script.write_text(
        f"import os, pathlib, signal\nseen = pathlib.Path({str(seen)!r})\nstarts = int(seen.read_text() or 0)\n"
        "seen.write_text(str(starts + 1))\nif starts % 3 < 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "def reply(): return ('right', None) if starts == 5 else os._exit(1)"
    )
    seen.write_text("")
    with closing(Workers(script, busy=1)) as workers:
        found = workers.replies([[]] * 3)
    # two starts fail; the third is ready and exits; two more fail, which is not three in a row; the sixth answers
    assert found == [("unchecked", "crash"), ("unchecked", "crash"), ("right", None)]


@pytest.mark.parametrize(
    ("does", "why"),
    [("__import__('time').sleep(999)", "crash"), ("exit(3)", "error"), ("__import__('os')._exit(3)", "crash")],
)
def test_a_worker_that_sleeps_or_exits_costs_one_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, why: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"def reply(answer):\n    return ('right', None) if answer == 'right' else {does}")
    with closing(Workers(script, busy=1)) as workers:
        assert workers.replies([["right"]]) == [("right", None)]
        monkeypatch.setattr(worker_processes, "REPLY_S", 1.0 if "sleep" in does else 600.0)
        workers.workers[0].socket.settimeout(worker_processes.REPLY_S)
        assert workers.replies([["hang"]]) == [("unchecked", why)]
        workers.workers[0].socket.settimeout(600.0)
        assert workers.replies([["right"]]) == [("right", None)]


def test_memory_is_bounded_and_its_want_is_noticed() -> None:
    code = f"""
import sys; sys.path.append({str(ROOT / "harness/tasks")!r})
import workers as memory
memory.bound_memory()
for size in (memory.MEMORY, memory.MEMORY * 6 // 10):
    assert not memory.exhausted()
    try:
        bytearray(b"1") * size
    except MemoryError:
        print("refused")
print("noticed" if memory.exhausted() else "missed")
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["refused", "noticed"]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_no_worker_outlives_its_parent_busy_or_idle() -> None:
    code = f"""
from harness.tasks.math.checker import EQUALITY
from harness.tasks.workers import Workers
workers = Workers(EQUALITY, limit_s={HURRY_S})
workers.replies([("1", "1")])
print(*[worker.process.pid for worker in workers.workers], flush=True)
workers.replies(2 * [("x", {HUNG!r})])
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        time.sleep(0.3)
        parent.kill()
    assert len(pids) == 2
    wait_until(lambda: not any(map(is_running, pids)), "workers live on")


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_math_verify_missing_is_wrong_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="pip install"):
        MathChecker()


def test_the_memory_of_the_run_is_not_the_workers() -> None:
    ballast = b"1" * (600 << 20)  # as a process with a model has; a worker may have half a GiB
    with closing(MathChecker()) as own:
        assert own.check([("5", r"\boxed{6}")]) == [Grade("wrong", "6", None)]
    assert ballast[-1:] == b"1"
