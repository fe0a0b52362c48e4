import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness.errors import HarnessError, UsageError
from harness.tasks.math import workers as math_workers
from harness.tasks.math.answers import MAX_ANSWER_CHARACTERS
from harness.tasks.math.checker import MathChecker, self_test
from harness.tasks.math.workers import MathWorkers
from harness.tasks.task import Grade

HUNG = "(" * 40 + "x" + ")" * 40  # seconds of CPU time for the parser
ROOT = Path(__file__).parents[3]

# gold, answer
RIGHT = [
    ("5", "5"),
    ("$5$", "5"),
    ("5", "{5}"),
    ("5", r"\text{5}"),
    ("5.00", "5"),
    ("0.5", r"\frac{1}{2}"),
    (r"\frac13", "1/3"),
    ("1.5 \\times 10^{5}", "150000"),
    ("12345", r"12\,345"),
    ("12345", "12,345"),
    ("0.1", r"10\%"),
    (r"10\%", "0.1"),
    ("1", "x = 1"),
    ("1", "f(x)=1"),
    ("x=1", "1"),
    ("5", r"5\text{ cm}^2"),
    (r"5 \text{ cm}", "5"),
    ("90", r"90^\circ"),
    (r"90^\circ", r"90\text{ degrees}"),
    ("101_2", "101_{2}"),
    (r"\$5", "5"),
    ("Monday", r"\text{Monday}"),
    ("(1,2)", "(1, 2)"),
    ("1,2", r"\{2,1\}"),
    ("4,6", r"5\pm1"),
    ("x<3", "3>x"),
    (r"\infty", r"+\infty"),
    (r"(1,2)\cup(3,4)", r"(3,4)\cup(1,2)"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\\frac{4}{2}\end{pmatrix}"),
]

# gold, answer, why
WRONG = [
    ("5", "6", None),
    ("5", "5 or 6", "several values"),
    ("5", r"5\text{ or }6", "several values"),
    ("5", r"5\text{or six}", "several values"),
    ("5", "5;6", "several values"),
    ("4", r"5\pm1", "several values"),
    ("5", "5=6", "a relation"),
    ("5", "6=5", "a relation"),
    ("5", "x=y=5", "a relation"),
    ("5", r"5\approx 6", "a relation"),
    (r"\frac{3}{4}", "3:4", "a relation"),
    ("(-\\infty,3)", "x<3", "a relation"),
    ("1,2,3", r"1,2,3,\ldots", "an ellipsis"),
    ("11", "5 6", "two numbers side by side"),
    ("11", r"5\quad 6", "two numbers side by side"),
    ("5", r"\text{not }5", "words"),
    ("5", r"5\text{ is wrong}", "words"),
    ("5", "5_{6}+0", "a base"),
    ("101_2", "101_3", "another unit"),
    (r"5\text{ cm}", r"5\text{ m}", "another unit"),
    ("6", r"\sum_{k}k", "an operation"),
    ("357", r"12\,345", None),
    ("10", r"10\%", None),
    (r"10\%", "10", None),
    ("1/3", ".3333", None),
    ("1/3", "0.333333333333", None),
    ("0.0000001", "0.0", None),
    (r"\frac{1}{2^{60}}", r"\frac{1}{3^{60}}", None),
    ("x=1", "y=1", None),
    ("(1,2)", "(2,1)", None),
    ("(1,2)", "(1,2]", None),
    ("(1,2)", "1,2", "another kind"),
    ("1,2", "(1,2)", "another kind"),
    ("5", "__import__('os').system('exit 1')", "a base"),
    ("5", "((", "unreadable"),
]

# gold, answer, why
UNCHECKED = [
    ("5", "9^{9^{9^{9}}}", "too large"),
    ("5", "99999999!", "too large"),
    ("5", "9!!", "too large"),
    ("5", "-" * 500 + "5", "depth"),
    ("))", "5", "unreadable gold"),
    ("1" * (MAX_ANSWER_CHARACTERS + 1), "5", "gold too long"),
]


@pytest.fixture(scope="module")
def checker() -> Iterator[MathChecker]:
    with closing(MathChecker()) as checker:
        yield checker


@pytest.fixture
def hurried(checker: MathChecker, monkeypatch: pytest.MonkeyPatch) -> MathChecker:
    monkeypatch.setattr(checker.workers, "limit_s", 1.0)
    return checker


@pytest.fixture(scope="module")
def workers() -> Iterator[MathWorkers]:
    with closing(MathWorkers(busy=1, limit_s=60)) as workers:
        yield workers


def boxed(answer: object) -> str:
    return f"\\boxed{{{answer}}}"


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_right(checker: MathChecker, gold: str, answer: str) -> None:
    assert checker.check([(gold, boxed(answer))]) == [Grade("right", answer)]


@pytest.mark.parametrize(("gold", "answer", "why"), WRONG)
def test_wrong(checker: MathChecker, gold: str, answer: str, why: str | None) -> None:
    assert checker.check([(gold, boxed(answer))]) == [Grade("wrong", answer, why)]


@pytest.mark.parametrize(("gold", "answer", "why"), UNCHECKED, ids=[why for _, _, why in UNCHECKED])
def test_unchecked_is_neither(checker: MathChecker, gold: str, answer: str, why: str) -> None:
    assert checker.check([(gold, boxed(answer))]) == [Grade("unchecked", answer, why)]


def test_a_hung_answer_is_unchecked(hurried: MathChecker) -> None:
    assert hurried.check([("x", boxed(HUNG))]) == [Grade("unchecked", HUNG, "time")]


def test_twenty_thousand_elements_are_too_long(checker: MathChecker) -> None:
    elements = ",".join(map(str, range(20_000)))
    assert checker.check([(elements, boxed(f"\\{{{elements}\\}}"))]) == [Grade("wrong", None, "too long")]


def test_order_is_kept_and_hostile_answers_cost_the_others_nothing(hurried: MathChecker) -> None:
    golds = ["1", "7", "2", "4", "7", "3"]
    answers = ["1", HUNG, r"\frac{4}{2}", "none of these(", HUNG, "3.0"]
    grades = hurried.check([(gold, boxed(answer)) for gold, answer in zip(golds, answers, strict=True)])
    assert [grade.outcome for grade in grades] == ["right", "unchecked", "right", "wrong", "unchecked", "right"]
    assert [grade.answer for grade in grades] == answers
    assert hurried.check([]) == []


def test_gold_is_the_gold(checker: MathChecker) -> None:
    grades = checker.check([(r"\sum_{k=1}^{3} k", boxed(6)), ("6", boxed(r"\sum_{k=1}^{3} k"))])
    assert [grade.outcome for grade in grades] == ["right", "wrong"]


def test_a_known_verdict_needs_no_worker(checker: MathChecker, monkeypatch: pytest.MonkeyPatch) -> None:
    (grade,) = checker.check([("x", boxed("y^2"))])
    monkeypatch.setattr(MathChecker, "workers", None)
    assert checker.check([("x", boxed("y^2")), ("x", boxed("y^2"))]) == [grade, grade]


@pytest.mark.parametrize(("kills", "why"), [(1, "time"), (2, "crash")])
def test_an_answer_whose_worker_is_killed_is_tried_once_more(
    workers: MathWorkers, monkeypatch: pytest.MonkeyPatch, kills: int, why: str
) -> None:
    (worker,) = workers.workers

    def kill_busy() -> None:
        for _ in range(kills):
            while not (worker.is_ready and worker.process.poll() is None and workers.idle.empty()):
                time.sleep(0.01)
            worker.process.kill()
            worker.process.wait()

    monkeypatch.setattr(workers, "limit_s", 1.0)
    killer = threading.Thread(target=kill_busy)
    killer.start()
    assert workers.compare([("x", HUNG)]) == [("unchecked", why)]
    killer.join()
    assert workers.compare([("1", "1")]) == [("right", None)]


def test_a_busy_machine_gives_the_same_verdicts(checker: MathChecker) -> None:
    slow = "(" * 13 + "x" + ")" * 13  # half a second of CPU time
    pairs = [("x", slow), ("y", slow), ("x+1", f"{slow}+1"), ("x^2-1", "(x+1)(x-1)")]
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(8 * (os.cpu_count() or 1))]
    grades = checker.check([(gold, boxed(answer)) for gold, answer in pairs])
    for process in busy:
        process.kill()
        process.wait()
    assert [grade.outcome for grade in grades] == ["right", "wrong", "right", "right"]


def test_workers_killed_idle_are_replaced(workers: MathWorkers) -> None:
    for worker in workers.workers:
        worker.process.kill()
        worker.process.wait()
    assert workers.compare([("1", "1")]) == [("right", None)]


def test_an_interrupted_batch_leaves_no_reply_for_the_next(
    workers: MathWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "limit_s", 1.0)
    workers.compare([("1", "1")])
    usual = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    with pytest.raises(KeyboardInterrupt):
        workers.compare([("x", HUNG)])
    signal.signal(signal.SIGALRM, usual)
    assert workers.compare([("1", "2"), ("1", "1")]) == [("wrong", None), ("right", None)]


def test_workers_that_cannot_start_are_an_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit(3)")
    with closing(MathWorkers(script=broken)) as workers, pytest.raises(HarnessError, match="exited with code 3"):
        workers.compare([("1", "1")])


def test_a_worker_that_sleeps_is_ended_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asleep = tmp_path / "asleep.py"
    asleep.write_text("print('ready', flush=True); input(); input()")
    monkeypatch.setattr(math_workers, "REPLY_S", 0.1)
    with closing(MathWorkers(script=asleep)) as workers:
        assert workers.compare([("1", "1")]) == [("unchecked", "no reply")]


@pytest.mark.parametrize("size", ["memory.MEMORY", "memory.MEMORY * 6 // 10"])
def test_memory_is_bounded_and_its_want_is_noticed(size: str) -> None:
    code = f"""
import sys; sys.path.insert(0, {str(ROOT / "harness/tasks/math")!r})
import workers as memory
memory.bound_memory()
assert not memory.exhausted()
try:
    bytearray(b"1") * ({size})
except MemoryError:
    print("refused")
else:
    print("noticed" if memory.exhausted() else "missed")
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ("refused" if size == "memory.MEMORY" else "noticed")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_no_worker_outlives_its_parent_busy_or_idle() -> None:
    code = f"""
from harness.tasks.math.workers import MathWorkers
workers = MathWorkers(limit_s=1)
workers.compare([("1", "1")])
print(*[worker.process.pid for worker in workers.workers], flush=True)
workers.compare(2 * [("x", {HUNG!r})])
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        time.sleep(0.3)
        parent.kill()
    assert len(pids) == 2
    patience = time.monotonic() + 30
    while left := [pid for pid in pids if is_running(pid)]:
        assert time.monotonic() < patience, left
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_self_test_passes(hurried: MathChecker) -> None:
    self_test(hurried.check)


def test_math_verify_missing_is_wrong_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="pip install"):
        MathChecker()


def test_the_memory_of_the_run_is_not_the_workers() -> None:
    ballast = b"1" * (600 << 20)  # as a process with a model has; a worker may have half a GiB
    with closing(MathChecker()) as own:
        assert own.check([("5", r"\boxed{6}")]) == [Grade("wrong", "6", None)]
    assert ballast[-1:] == b"1"
