"""Compares answers with math-verify in worker processes that can be killed.

Run as a script, this file is the worker. It imports neither this package nor torch, so it starts quickly and inherits
nothing. Each answer has a limit on CPU time, at which SIGPROF kills the worker, so that verdicts do not depend on how
busy the machine is. A worker exits when its input ends, so it outlives a killed parent by that limit at most.
"""

import contextlib
import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from latex2sympy2_extended import NormalizationConfig, latex2sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig  # type: ignore[import-untyped]
from math_verify import verify
from math_verify.grader import should_treat_as_complex
from sympy import Basic, FiniteSet, Float, MatrixBase, Rational, Set, Tuple, UnevaluatedExpr
from sympy.core.relational import Relational
from sympy.logic.boolalg import BooleanFunction

CPU_S = 5.0  # CPU time per answer; all but adversarial ones take less than a tenth of a second
START_S, REPLY_S = 600.0, 600.0  # wall-clock limits, for a worker that sleeps instead of computing
STARTS = 3  # failed starts in a row before giving up
MEMORY = 1 << 30  # bytes of address space per worker
LOST = ("crash", "no reply")  # reasons that concern the worker and not the answer, which is then tried once more

NEAR = 1e-12
DIGITS = 30
# units=False, because otherwise a final c, d, g, h, l, m, o, s or t would be stripped as a unit
NORMALIZATION = NormalizationConfig(units=False, malformed_operators=True, nits=True, boxed="none")
CASE_COUNTS = ConversionConfig(lowercase_symbols=False)  # x is not X
# The parser is ten times slower on the first expression of each kind, so a worker parses these before it is ready.
WARMING = [r"\frac{1}{2}", r"2\sqrt{3}-\pi", r"x^{2}+2x+1", r"y=2x-1.5", r"(-1,2]", r"\{1,2\}", r"(1,2,3)", r"x<3"]
WARMING.append(r"\begin{pmatrix}1&2\\3&4\end{pmatrix}")

Expression = Any  # a sympy Basic or MatrixBase, or the list of a set's elements
Verdict = tuple[Literal["right", "wrong", "unchecked"], str | None]  # outcome, reason
KINDS = {
    "set": list | FiniteSet,
    "interval": (Set, Tuple),  # an open interval and a pair have the same notation
    "relation": (Relational, BooleanFunction),
    "matrix": MatrixBase,
}


class MathWorkers:
    """A pool of `busy` workers, which compare one answer each, with a limit of `limit_s` seconds of CPU time."""

    def __init__(self, busy: int = 2, limit_s: float = CPU_S, script: Path = Path(__file__)) -> None:
        self.limit_s, self.closed = limit_s, False
        self.workers = [Worker(script) for _ in range(busy)]
        self.idle: SimpleQueue[Worker] = SimpleQueue()
        for worker in self.workers:
            self.idle.put(worker)
        self.threads = ThreadPoolExecutor(busy)

    def close(self) -> None:
        """Kill all workers, including busy ones."""
        self.closed = True
        for worker in self.workers:
            worker.process.kill()
        self.threads.shutdown(cancel_futures=True)
        for worker in self.workers:
            worker.end()

    def compare(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """The verdict on each (gold, answer) pair, in order. Raises HarnessError if workers fail to start."""
        return list(self.threads.map(self.verdict, pairs))

    def verdict(self, pair: tuple[str, str]) -> Verdict:
        """The verdict on one pair, from the next idle worker."""
        worker = self.idle.get()
        try:
            verdict = worker.compare(pair, self.limit_s)
            return worker.compare(pair, self.limit_s) if verdict[1] in LOST and not self.closed else verdict
        finally:
            self.idle.put(worker)


class Worker:
    """A process that compares one answer at a time and is restarted when it dies."""

    def __init__(self, script: Path) -> None:
        self.script = script
        self.start()

    def start(self) -> None:
        """Start a process without waiting for it; `compare` waits until it is ready."""
        self.socket, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(self.script)],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONHASHSEED": "0"},  # makes verdicts deterministic
                start_new_session=True,  # Ctrl-C must reach only the run, which stops at a step boundary
            )
        self.lines, self.is_ready = self.socket.makefile("rw", encoding="utf-8"), False

    def end(self) -> int:
        """Kill the process if it is alive; returns its exit code."""
        self.process.kill()
        code: int = self.process.wait()
        with contextlib.suppress(OSError):  # flushing a request that it did not live to read
            self.lines.close()
        self.socket.close()
        return code

    def restart(self) -> int:
        """Replace the process; returns the old one's exit code."""
        code = self.end()
        self.start()
        return code

    def compare(self, pair: tuple[str, str], limit_s: float) -> Verdict:
        """The process's verdict, or "unchecked" with the reason "time", "crash" or "no reply"."""
        self.make_ready()
        line, lost = "", "crash"
        try:
            self.socket.settimeout(REPLY_S)
            print(json.dumps([*pair, limit_s]), file=self.lines, flush=True)
            line = self.lines.readline()
        except TimeoutError:
            lost = "no reply"
        except OSError:
            pass
        verdict: Verdict = tuple(json.loads(line)) if line else ("unchecked", lost)
        if (not line or verdict[1] == "memory") and self.restart() == -signal.SIGPROF:
            return "unchecked", "time"
        return verdict

    def make_ready(self) -> None:
        """Wait until the process is ready. Raises HarnessError if STARTS processes in a row fail to start."""
        if self.process.poll() is not None:  # killed while idle
            self.restart()
        for _ in range(STARTS):
            if not self.is_ready:
                self.socket.settimeout(START_S)
                with contextlib.suppress(OSError):
                    self.is_ready = self.lines.readline() != ""
            if self.is_ready:
                return
            code = self.restart()
        from harness.errors import HarnessError  # imported here because the worker script runs without the package

        raise HarnessError(
            f"expected the math checker to start, but it exited with code {code}: "
            f"run {sys.executable} {self.script} to see why"
        )


def main() -> None:
    """The worker: prints "ready", then answers each line of JSON with a line of JSON until its input ends."""
    requests, replies = sys.stdin, os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keeps anything that a library prints out of the replies
    logging.disable(logging.CRITICAL)
    bound_memory()
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for text in WARMING:
        compare(text, text + " ")
    print("ready", file=replies, flush=True)
    for request in requests:
        gold, answer, cpu_s = json.loads(request)
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        verdict = verdict_of(gold, answer)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(verdict), file=replies, flush=True)


def bound_memory() -> None:
    """Limit the address space, on systems that support it, and turn core files off."""
    for what, soft in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, MEMORY)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(what, (soft, resource.getrlimit(what)[1]))


def exhausted() -> bool:
    """Whether peak memory came close to the limit: math-verify treats a MemoryError as a wrong answer.

    On Linux the peak is read from /proc, because getrusage's peak includes the parent's memory at the fork.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        peak = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024 > MEMORY // 2
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit > MEMORY // 2


def verdict_of(gold: str, answer: str) -> Verdict:
    """The outcome and its reason; "unchecked" if the comparison raises an error."""
    try:
        verdict = compare(gold, answer)
    except MemoryError:
        verdict = "unchecked", "memory"
    except RecursionError:
        verdict = "unchecked", "depth"
    except Exception:  # sympy may raise any error
        verdict = "unchecked", "error"
    return ("unchecked", "memory") if verdict[0] != "right" and exhausted() else verdict


def compare(gold: str, answer: str) -> Verdict:
    """The outcome and its reason. Lets errors of sympy rise."""
    real = not should_treat_as_complex(gold + " " + answer)
    right, given = parsed(gold, real), parsed(answer, real)
    if right is None:
        return "unchecked", "unreadable gold"
    if given is None:
        return "wrong", "unreadable"
    if kind(right) != kind(given):
        return "wrong", "another kind"
    is_right = same_elements(right, given) if isinstance(right, list) else equal(right, given)
    return ("right" if is_right else "wrong"), None


def parsed(text: str, real: bool) -> Expression | None:
    """The LaTeX as an expression, with exact fractions for decimals and percentages; None if it cannot be parsed.

    A list, or a set in braces, becomes a Python list of its elements, which keeps duplicates.
    """
    try:
        found = latex2sympy(
            text,
            is_real=real,
            convert_degrees=False,
            normalization_config=NORMALIZATION,
            conversion_config=CASE_COUNTS,
        )
    except (MemoryError, RecursionError):
        raise
    except Exception:  # the parser may raise any error
        return None
    if isinstance(found, FiniteSet):
        return [exact(element) for element in getattr(found, "_unsorted_args", found.args)]
    return exact(found) if isinstance(found, Basic | MatrixBase) else None


def exact(expression: Basic | MatrixBase) -> Expression:
    """The expression with exact fractions in place of decimals and percentages."""
    decimals = {number: Rational(str(number)) for number in expression.atoms(Float)}
    hundredths = {percent: percent.args[0] for percent in expression.atoms(UnevaluatedExpr)}
    return expression.xreplace(decimals).xreplace(hundredths)


def kind(expression: Expression) -> str:
    """The kind of answer: a key of KINDS, or "value". Answers of different kinds are never equal."""
    return next((name for name, types in KINDS.items() if isinstance(expression, types)), "value")


def equal(gold: Expression, answer: Expression) -> bool:
    """Whether both are of the same kind and math-verify considers them equal; matrices are compared by entry."""
    if kind(gold) != kind(answer) or far(gold, answer):
        return False
    if isinstance(gold, MatrixBase):
        return gold.shape == answer.shape and all(map(equal, gold.flat(), answer.flat()))
    return bool(verify(gold, answer, timeout_seconds=None, raise_on_error=True))


def same_elements(gold: list[Expression], answer: list[Expression]) -> bool:
    """Whether the elements match one to one in any order: 1,2,2 equals neither 1,2 nor 1,1,2."""
    if len(gold) != len(answer):
        return False
    left = list(answer)
    for one in gold:
        partner = next((index for index, other in enumerate(left) if one == other or equal(one, other)), None)
        if partner is None:
            return False
        del left[partner]
    return True


def far(gold: Expression, answer: Expression) -> bool:
    """Whether two numbers differ by more than NEAR relative to the gold answer; math-verify's tolerance is absolute."""
    if not (getattr(gold, "is_number", False) and getattr(answer, "is_number", False)):
        return False
    size, difference = abs(gold.evalf(DIGITS)), abs((gold - answer).evalf(DIGITS))
    return bool(difference.is_finite and size.is_finite and difference > NEAR * size)


if __name__ == "__main__":
    main()
