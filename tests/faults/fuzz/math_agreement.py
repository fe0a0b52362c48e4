"""How our grades agree with math-verify on mutants of right answers: python -m tests.faults.fuzz.math_agreement [N]

Plain is verify(parse(gold), parse(whole response)). What is true follows from how each mutant was made.
"""

import logging
import sys
from collections import Counter
from contextlib import closing
from functools import cache
from random import Random

from math_verify import parse, verify

from harness.tasks.math.checker import MathChecker
from tests.faults.fuzz.math_mutations import mutant

COLUMNS = ("mutants", "both", "only ours", "only plain", "neither", "wrong paid", "by plain", "right not")

parsed = cache(parse)


def response(answer: str) -> str:
    """A response that ends with the answer."""
    return f"<think>We try 7, which fails.</think> The answer is $\\boxed{{{answer}}}$."


def plain(gold: str, answer: str) -> bool:
    """What math-verify says by itself."""
    return bool(verify(parsed(f"${gold}$"), parsed(response(answer))))


def main(count: int) -> None:
    """Print, by decision, what both accept, and the wrong ones accepted and right ones refused."""
    logging.disable(logging.CRITICAL)
    random = Random(0)
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
    print(f"{len(mutants)} different mutants\n{'':12}" + "".join(f"{name:>12}" for name in COLUMNS))
    for decision, counts in sorted(table.items()):
        print(f"{decision:12}" + "".join(f"{counts[name]:12}" for name in COLUMNS))


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 1000)
