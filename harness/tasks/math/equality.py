"""Compares a gold answer and an answer with math-verify: the script of a worker process (harness/tasks/workers.py).

It imports neither this package nor torch, so that it starts quickly.
"""

from typing import Any, Literal

from latex2sympy2_extended import NormalizationConfig, latex2sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig  # type: ignore[import-untyped]
from math_verify import verify
from math_verify.grader import should_treat_as_complex
from sympy import Basic, FiniteSet, Float, MatrixBase, Rational, Set, Tuple, UnevaluatedExpr
from sympy.core.relational import Relational
from sympy.logic.boolalg import BooleanFunction

NEAR = 1e-12
DIGITS = 30
# units=False, because otherwise a final c, d, g, h, l, m, o, s or t would be stripped as a unit
NORMALIZATION = NormalizationConfig(units=False, malformed_operators=True, nits=True, boxed="none")
CASE_COUNTS = ConversionConfig(lowercase_symbols=False)  # x is not X
Expression = Any  # a sympy Basic or MatrixBase, or the list of a set's elements
Verdict = tuple[Literal["right", "wrong", "unchecked"], str | None]  # outcome, reason
KINDS = {
    "set": list | FiniteSet,
    "interval": (Set, Tuple),  # an open interval and a pair have the same notation
    "relation": (Relational, BooleanFunction),
    "matrix": MatrixBase,
}


def reply(gold: str, answer: str) -> Verdict:
    """The outcome and its reason. Lets errors of sympy rise."""
    real = not should_treat_as_complex(gold + " " + answer)
    right, given = parsed(gold, real), parsed(answer, real)
    if right is None:
        return "unchecked", "unreadable gold"
    if given is None:
        return "wrong", "unreadable"
    return ("right" if equal(right, given) else "wrong"), None


def parsed(text: str, real: bool) -> Expression | None:
    """The LaTeX as an expression, with exact fractions for decimals and percentages; None if it cannot be parsed.

    A list, or a set in braces, becomes a Python list of its elements, which keeps duplicates.
    """
    try:
        found = latex2sympy(
            text, is_real=real, convert_degrees=True, normalization_config=NORMALIZATION, conversion_config=CASE_COUNTS
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
    if isinstance(gold, list):
        return same_elements(gold, answer)
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


# The parser is ten times slower on the first expression of each kind, so these are parsed before a worker is ready.
WARMING = [r"\frac{1}{2}", r"2\sqrt{3}-\pi", r"x^{2}+2x+1", r"y=2x-1.5", r"(-1,2]", r"\{1,2\}", r"(1,2,3)", r"x<3"]
WARMING.append(r"\begin{pmatrix}1&2\\3&4\end{pmatrix}")
for expression in WARMING:
    reply(expression, expression + " ")
