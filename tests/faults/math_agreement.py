r"""How our grades agree with plain math-verify: python -m tests.faults.math_agreement [N]

On realistic answers, or on N mutants of right ones. Plain is verify(parse(gold), parse(whole response)). What is true
follows from how each pair was made, so a disagreement has a side.
"""

import logging
import sys
import time
from collections import Counter
from contextlib import closing
from functools import cache
from random import Random

from math_verify import parse, verify

from harness.tasks.math.checker import MathChecker
from tests.faults.math_mutations import mutant

Pair = tuple[str, str, str, bool]  # category, gold, answer, whether it is right

RANGE = range(2, 12)
WINDS = ("north", "south", "east", "west")
COLUMNS = ("pairs", "agree", "only ours", "only plain", "ours true", "plain true")

MUTANT_COLUMNS = ("mutants", "both", "only ours", "only plain", "neither", "wrong paid", "by plain", "right not")


def pairs() -> list[Pair]:
    """The list, by category."""
    made: list[Pair] = []
    for n in RANGE:
        m, root = n + 1, rf"\sqrt{{{n}}}"
        made += [
            ("integer", f"{n}", f"{n}.0", True),
            ("integer", f"{n}000", f"{n},000", True),
            ("integer", f"{n}", f"{m}", False),
            ("fraction", rf"\frac{{{n}}}{{{m}}}", f"{n}/{m}", True),
            ("fraction", rf"\frac{{{n}}}{{{m}}}", rf"\dfrac{{{2 * n}}}{{{2 * m}}}", True),
            ("fraction", rf"\frac{{{n}}}{{{m}}}", rf"\frac{{{m}}}{{{n}}}", False),
            ("decimal", f"0.{n}5", rf"\frac{{{n}5}}{{{10 ** len(f'{n}5')}}}", True),
            ("decimal", rf"\frac{{1}}{{{3 * n}}}", f"{1 / (3 * n):.4f}", False),
            ("root", rf"{n}\sqrt{{3}}", rf"\sqrt{{{3 * n * n}}}", True),
            ("root", rf"\frac{{1}}{{{root}}}", rf"\frac{{{root}}}{{{n}}}", True),
            ("root", rf"{n}\sqrt{{3}}", rf"{n}\sqrt{{5}}", False),
            ("interval", f"({n},{m}]", rf"\left({n}, {m}\right]", True),
            ("interval", f"({n},{m}]", f"({n},{m})", False),
            ("interval", rf"(-\infty,{n})", f"x<{n}", False),
            ("set", f"{n},{m}", rf"\{{{m}, {n}\}}", True),
            ("set", f"{n},{m}", f"{n}", False),
            ("set", f"{n}", f"{n}, {m}", False),
            ("tuple", f"({n},{m},1)", f"({n}, {m}, 1)", True),
            ("tuple", f"({n},{m})", f"({m},{n})", False),
            ("tuple", f"({n},{m})", f"{n},{m}", False),
            ("percent", f"0.{n}0", rf"{n}0\%" if n < 10 else rf"{n}\%", True),
            ("percent", f"{n}", rf"{n}\%", False),
            ("unit", f"{n}", rf"{n}\text{{ cm}}", True),
            ("unit", rf"{n}\text{{ cm}}^2", f"{n}", True),
            ("unit", f"{n}0", rf"{n}0^\circ", True),
            ("unit", rf"{n}\text{{ cm}}", rf"{n}\text{{ m}}", False),
            (
                "text",
                rf"\text{{{['north', 'south', 'east', 'west'][n % 4]}}}",
                ["north", "south", "east", "west"][n % 4],
                True,
            ),
            ("text", f"{n}", rf"{n}\text{{ or }}{m}", False),
            ("text", f"{n}", rf"\text{{not }}{n}", False),
            ("algebra", f"x^2+{2 * n}x+{n * n}", f"(x+{n})^2", True),
            ("algebra", f"y={n}x+{m}", f"y={m}+{n}x", True),
            ("algebra", f"y={n}x", f"y={m}x", False),
            ("assignment", f"{n}", f"x={n}", True),
            ("assignment", f"{n}", f"{m}={n}", False),
            ("assignment", f"x={n}", f"y={n}", False),
            ("question", f"{n * m // 2}", rf"\sum_{{k=1}}^{{{n}}} k", False),
        ]
    return sorted(made, key=lambda pair: pair[0])


def response(answer: str) -> str:
    """A response that ends with the answer."""
    return f"<think>We try 7, which fails.</think> The answer is $\\boxed{{{answer}}}$."


parsed = cache(parse)


def plain(gold: str, answer: str) -> bool:
    """What math-verify says by itself."""
    return bool(verify(parsed(f"${gold}$"), parsed(response(answer))))


def main() -> None:
    """Prints the table and then one example of each kind of disagreement."""
    logging.disable(logging.CRITICAL)
    made = pairs()
    with closing(MathChecker()) as checker:
        grades = checker.check([(gold, response(answer)) for _, gold, answer, _ in made])
    rows = [
        (category, gold, answer, true, grade.outcome == "right", plain(gold, answer))
        for (category, gold, answer, true), grade in zip(made, grades, strict=True)
    ]
    print(f"{'':12}" + "".join(f"{name:>12}" for name in COLUMNS))
    for category in [*dict.fromkeys(row[0] for row in rows), ""]:
        outcomes = [row[3:] for row in rows if category in ("", row[0])]
        counts = (
            len(outcomes),
            sum(ours == theirs for _, ours, theirs in outcomes),
            sum(ours > theirs for _, ours, theirs in outcomes),
            sum(ours < theirs for _, ours, theirs in outcomes),
            sum(ours == true for true, ours, _ in outcomes),
            sum(theirs == true for true, _, theirs in outcomes),
        )
        print(f"{category or 'all':12}" + "".join(f"{count:12}" for count in counts))
    examples = {(row[0], *row[3:]): row for row in rows if len(set(row[3:])) > 1}
    for category, gold, answer, true, ours, theirs in examples.values():
        print(f"{category}: gold {gold}, answer {answer}: true {true}, ours {ours}, plain {theirs}")


def compare_mutants(count: int) -> None:
    """Prints, by decision, what both accept, and the wrong ones accepted and right ones refused."""
    logging.disable(logging.CRITICAL)
    random, started = Random(0), time.monotonic()
    mutants = Counter(mutant(random) for _ in range(count))
    with closing(MathChecker(busy=1)) as checker:
        grades = checker.check([(made.gold, response(made.answer)) for made in mutants])
    table: dict[str, Counter[str]] = {}
    for (made, times), grade in zip(mutants.items(), grades, strict=True):
        ours, theirs = grade.outcome == "right", plain(made.gold, made.answer)
        accepted = {(True, True): "both", (True, False): "only ours", (False, True): "only plain"}
        names = ["mutants", accepted.get((ours, theirs), "neither")]
        names += ["wrong paid"] * (ours > made.right) + ["by plain"] * (theirs > made.right)
        names += ["right not"] * (ours < made.right)
        for decision in (made.decision, "all"):
            table.setdefault(decision, Counter()).update(dict.fromkeys(names, times))
    print(f"{'':12}" + "".join(f"{name:>12}" for name in MUTANT_COLUMNS))
    for decision, counts in sorted(table.items()):
        print(f"{decision:12}" + "".join(f"{counts[name]:12}" for name in MUTANT_COLUMNS))
    print(f"{len(mutants)} different mutants, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    if sys.argv[1:]:
        compare_mutants(int(sys.argv[1]))
    else:
        main()
