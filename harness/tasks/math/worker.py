"""The process that compares answers with math-verify: a line of JSON in, a line of JSON out, until its input ends.

Run as a file by math_workers.py, never imported: it must start without torch. Each line brings a limit of CPU time, at
which SIGPROF ends the process whatever it is doing. So verdicts do not depend on how busy the machine is, and no worker
outlives its parent by more than that limit.
"""

import contextlib
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

from latex2sympy2_extended import NormalizationConfig, latex2sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig  # type: ignore[import-untyped]
from math_verify import verify
from math_verify.grader import should_treat_as_complex
from sympy import Basic, FiniteSet, Float, MatrixBase, Rational, Set, Tuple, UnevaluatedExpr
from sympy.core.relational import Relational
from sympy.logic.boolalg import BooleanFunction

MEMORY = 1 << 30
NEAR = 1e-12
DIGITS = 30

# Units off: what it takes for units ends in c, d, g, h, l, m, o, s and t.
NORMALIZATION = NormalizationConfig(units=False, malformed_operators=True, nits=True, boxed="none")

CASE_COUNTS = ConversionConfig(lowercase_symbols=False)  # x is not X

# The parser is ten times slower at its first sight of a form; it sees these before the clock runs.
WARMING = (
    r"\frac{1}{2}",
    r"2\sqrt{3}-\pi",
    "x^{2}+2x+1",
    "y=2x-1.5",
    "(-1,2]",
    r"\{1,2\}",
    "(1,2,3)",
    "x<3",
    r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
)

Expression = Any  # a Basic or MatrixBase of sympy, or the list of the elements of a set
Verdict = tuple[str, str | None]


def compare(gold: str, answer: str) -> Verdict:
    """The outcome and its reason."""
    real = not should_treat_as_complex(gold + " " + answer)
    right, given = read(gold, real), read(answer, real)
    if right is None:
        return "unchecked", "unreadable gold"
    if given is None:
        return "wrong", "unreadable"
    if kind(right) != kind(given):
        return "wrong", "another kind"
    if isinstance(right, list):
        return ("right" if same_elements(right, given) else "wrong"), None
    return ("right" if equal(right, given) else "wrong"), None


def equal(gold: Expression, answer: Expression) -> bool:
    """Whether both are of one kind and math-verify finds no difference; matrices entry by entry."""
    if kind(gold) != kind(answer) or far(gold, answer):
        return False
    if isinstance(gold, MatrixBase):
        return gold.shape == answer.shape and all(map(equal, gold.flat(), answer.flat()))
    return bool(verify(gold, answer, timeout_seconds=None, raise_on_error=True))


def same_elements(gold: list[Expression], answer: list[Expression]) -> bool:
    """Whether each element of one has its own partner in the other: 1,2,2 is neither 1,2 nor 1,1,2."""
    if len(gold) != len(answer):
        return False
    left = list(answer)
    for one in gold:
        partner = next((index for index, other in enumerate(left) if one == other or equal(one, other)), None)
        if partner is None:
            return False
        del left[partner]
    return True


def read(text: str, real: bool) -> Expression | None:
    """What the LaTeX means, decimals and percentages as the exact fractions that they are; None where nothing.

    Of a list and of a set in braces alike it is the list of the elements, each as often as it stands there.
    """
    try:
        parsed = latex2sympy(
            text,
            is_real=real,
            convert_degrees=False,
            normalization_config=NORMALIZATION,
            conversion_config=CASE_COUNTS,
        )
    except (MemoryError, RecursionError):
        raise
    except Exception:  # whatever a parser may raise of a text that is not for it
        return None
    if isinstance(parsed, FiniteSet):
        return [exact(element) for element in getattr(parsed, "_unsorted_args", parsed.args)]
    return exact(parsed) if isinstance(parsed, Basic | MatrixBase) else None


def exact(parsed: Basic | MatrixBase) -> Expression:
    """The same with fractions for decimals and percentages."""
    decimals = {number: Rational(str(number)) for number in parsed.atoms(Float)}
    hundredths = {percent: percent.args[0] for percent in parsed.atoms(UnevaluatedExpr)}
    return parsed.xreplace(decimals).xreplace(hundredths)


def kind(expression: Expression) -> str:
    """What sort of answer it is; only like is compared with like. An open interval and a pair are written alike."""
    for name, types in KINDS.items():
        if isinstance(expression, types):
            return name
    return "value"


KINDS = {
    "set": list | FiniteSet,
    "interval": (Set, Tuple),
    "relation": (Relational, BooleanFunction),
    "matrix": MatrixBase,
}


def far(gold: Expression, answer: Expression) -> bool:
    """Whether two numbers differ for certain; math-verify lets 1e-15 pass, however small the gold answer."""
    if not (getattr(gold, "is_number", False) and getattr(answer, "is_number", False)):
        return False
    size, difference = abs(gold.evalf(DIGITS)), abs((gold - answer).evalf(DIGITS))
    return bool(difference.is_finite and size.is_finite and difference > NEAR * size)


def bound() -> None:
    """Bounds memory, where the system has such bounds."""
    if resource is None:
        return
    for what, soft in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, MEMORY)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(what, (soft, resource.getrlimit(what)[1]))


def end_after(cpu_s: float) -> None:
    """Lets SIGPROF end the process after so much CPU time from now; 0 calls it off."""
    signal.setitimer(signal.ITIMER_PROF, cpu_s)


def exhausted() -> bool:
    """Whether memory ran short at some time: math-verify takes its own MemoryError for a difference.

    Not by getrusage on Linux, whose peak counts what the parent had at the fork.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        peak = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024 > MEMORY // 2
    if resource is None:
        return False
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit > MEMORY // 2


def verdict_of(gold: str, answer: str) -> Verdict:
    """The outcome and its reason, also where the comparison failed."""
    try:
        verdict = compare(gold, answer)
    except MemoryError:
        verdict = "unchecked", "memory"
    except RecursionError:
        verdict = "unchecked", "depth"
    except Exception:  # sympy raises whatever it likes
        verdict = "unchecked", "error"
    return ("unchecked", "memory") if verdict[0] != "right" and exhausted() else verdict


def main() -> None:
    """Says that it is ready, then answers line by line."""
    requests, replies = sys.stdin, os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no reply
    logging.disable(logging.CRITICAL)
    bound()
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for text in WARMING:
        compare(text, text + " ")
    print("ready", file=replies, flush=True)
    for request in requests:
        gold, answer, cpu_s = json.loads(request)
        end_after(cpu_s)
        verdict = verdict_of(gold, answer)
        end_after(0)
        print(json.dumps(verdict), file=replies, flush=True)


if __name__ == "__main__":
    main()
