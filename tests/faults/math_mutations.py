r"""Answers made from right ones by mutations whose effect is known: each is right or wrong by construction.

`decision` names the section of docs/math-answers.md that the mutation is about.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from harness.tasks.math.units import NAMES

WIDE = str.maketrans("0123456789", "".join(chr(0xFF10 + digit) for digit in range(10)))
RAISED = str.maketrans("0123456789", "".join(map(chr, (0x2070, 0xB9, 0xB2, 0xB3, *range(0x2074, 0x207A)))))
UNITS = ("cm", "kg", "miles", "hours", "dollars", "apples", "square feet", "km/h", "degrees", "ways", "liters")
# The first two of a line are one unit; the last is another.
UNIT_SPELLINGS = (
    (r"\text{ m}", r"\text{ meters}", r"\text{ cm}"),
    (r"\text{ cm}^2", r"\text{ square centimeters}", r"\text{ cm}^3"),
    (r"\text{ hours}", r"\text{ hr}", r"\text{ days}"),
    (r"\text{ mph}", r"\text{ miles per hour}", r"\text{ km/h}"),
    (r"^\circ", r"\text{ degrees}", r"\text{ radians}"),
    (r"\text{ dollars}", " dollars", r"\text{ cents}"),
)
CHANGES = """below zero; squared; cubed; less; more; at most; short; pairs; tenths; hundredths; factorial; in debt; th;
per million; percent off; million; thousand; hundred; billion; dozen; percent; mod 3; times; over 7; half; negative"""
WORDS = """east west north no yes odd even true false Monday Evelyn Briana red green stop listen triangle kite none
never BAC AEBDC ABC PQRS CBAD Amy Dan tan"""
PRODUCTS = ("xy", "abc", "mn", "pq", "xyz", "2xy", "7abc", "3mnp", "uv", "ab")


@dataclass(frozen=True)
class Mutant:
    """A gold answer and another one made from it."""

    decision: str
    gold: str
    answer: str
    right: bool


def mutant(random: Random) -> Mutant:
    """One of a kind drawn at random, perhaps with markup around it."""
    made = random.choice(KINDS)(random)
    if random.random() < 0.3:
        return Mutant(made.decision, made.gold, marked_up(random, made.answer), made.right)
    return made


def marked_up(random: Random, answer: str) -> str:
    """The same answer with markup around it, or in another style."""
    forms = [
        "**{}**",
        "__{}__",
        "`{}`",
        r"\({}\)",
        "${}$",
        "{}.",
        " {} ",
        r"\displaystyle {}",
        r"\boldsymbol{{{}}}",
        r"\mathbf{{{}}}",
    ]
    return random.choice(forms).format(answer)


def drawn(random: Random, decision: str, gold: str, right: list[str], wrong: list[str]) -> Mutant:
    """One of the answers that are right, or wrong, as often."""
    is_right = random.random() < 0.5 or not wrong
    return Mutant(decision, gold, random.choice(right if is_right else wrong), is_right)


def unit(random: Random) -> Mutant:
    """A number with a unit."""
    n, name = random.randrange(2, 50), random.choice(UNITS)
    if random.random() < 0.5:
        right = [
            rf"{n}\text{{ {name}}}",
            f"{n} {name}",
            rf"{n}\,\mathrm{{{name}}}",
            rf"\${n}",
            f"\u20ac{n}",
            f"{n}\u00b0",
        ]
        wrong = [
            rf"{n + 1}\text{{ {name}}}",
            rf"{n}\text{{ {word(random)}}}",
            f"{n} {word(random)}",
            f"{n}{word(random)}",
        ]
        return drawn(random, "Units", str(n), right, [answer for answer in wrong if answer])
    one, other, third = random.choice(UNIT_SPELLINGS)
    return drawn(random, "Units", f"{n}{one}", [f"{n}{other}", str(n), f"{n}{one}"], [f"{n}{third}", f"{n + 1}{other}"])


def word(random: Random) -> str:
    """Letters that are no unit."""
    letters = "".join(random.choices("abdefiklnoprstuvy", k=random.randrange(3, 8)))
    return letters if letters not in NAMES and letters not in ("pi", "ln", "tan") else "zzz"


def suffix(random: Random) -> Mutant:
    """A number with a word that changes it, against the number."""
    n, change = random.randrange(2, 50), random.choice(CHANGES.split(";")).strip()
    return Mutant(
        "Units", str(n), random.choice([rf"{n}\text{{ {change}}}", f"{n} {change}", rf"\text{{{n} {change}}}"]), False
    )


def multiplier(random: Random) -> Mutant:
    """A number with a word for a number."""
    n = random.randrange(2, 60)
    name, factor = random.choice(
        [("hundred", 100), ("thousand", 1000), ("million", 10**6), ("billion", 10**9), ("dozen", 12)]
    )
    right = [rf"{n}\text{{ {name}}}", f"{n} {name}", rf"{n}\,\text{{{name}}}", f"{n} {name} people", rf"\${n} {name}"]
    return drawn(
        random, "Multipliers", str(n * factor), right, [str(n), rf"{n + 1}\text{{ {name}}}", f"{n * factor} {name}"]
    )


def percentage(random: Random) -> Mutant:
    """A percentage against its decimal, or against its number."""
    n = random.randrange(2, 99)
    forms = [rf"{n}\%", f"{n}%", rf"{n}\text{{ percent}}", f"{n} percent", f"{n} per cent"]
    if random.random() < 0.5:
        return Mutant("Percent", str(n), random.choice(forms), right=False)
    return drawn(
        random, "Percent", f"{n / 100}", [*forms, rf"\frac{{{n}}}{{100}}"], [str(n), rf"{n + 1}\%", rf"0.{n}\%"]
    )


def prose(random: Random) -> Mutant:
    """A word against itself and against its letters in another order."""
    gold = random.choice(WORDS.split())
    letters = list(gold)
    random.shuffle(letters)
    mixed, other = "".join(letters), random.choice(WORDS.split())
    right = [rf"\text{{{gold}}}", gold, rf"\textbf{{{gold}}}", rf"\mathrm{{{gold}}}", f"({gold})"]
    wrong = [
        other,
        rf"\text{{{other}}}",
        gold + gold,
        f"not {gold}",
        gold[1:],
        mixed,
        rf"\text{{{mixed}}}",
        rf"{gold}\text{{ {other}}}",
    ]
    wrong = [answer for answer in wrong if gold.lower() not in (answer.lower(), answer[6:-1].lower())]
    return drawn(random, "Words", random.choice([gold, rf"\text{{{gold}}}"]), right, wrong)


def product(random: Random) -> Mutant:
    """A product of letters, which may be permuted."""
    gold = random.choice(PRODUCTS)
    digits, letters = gold.rstrip("abcdmnpquvxyz"), list(gold.lstrip("0123456789"))
    random.shuffle(letters)
    right = [digits + "".join(letters), digits + " ".join(letters), digits + r" \cdot ".join(letters)]
    wrong = [gold + letters[0], gold[:-1], digits + "".join(letters).upper(), rf"\text{{{gold[::-1]}}}"]
    return drawn(random, "Words", gold, right, wrong)


def listed(random: Random) -> Mutant:
    """Some numbers in any order, perhaps one of them twice."""
    values = [random.randrange(-2, 5) for _ in range(random.randrange(2, 5))]
    moved = random.sample(values, len(values))
    text = [str(value) for value in moved]
    right = [", ".join(text), ",".join(text), rf"\{{{','.join(text)}\}}", r"\text{ and }".join(text), " or ".join(text)]
    changed = [values[0] + 1, *values[1:]]
    wrong = [[*moved, moved[0]], moved[1:], changed, [*moved[1:], moved[1]] if moved[0] != moved[1] else moved[1:]]
    chosen = random.choice(wrong)
    bad = [
        ", ".join(map(str, chosen)),
        rf"\{{{','.join(map(str, chosen))}\}}",
        f"({', '.join(text)})",
        r"\ ".join(text),
    ]
    return drawn(random, "Lists", ", ".join(map(str, values)), right, bad)


def ordered(random: Random) -> Mutant:
    """A pair or an interval."""
    a, b = sorted(random.sample(range(-5, 15), 2))
    left, right = random.choice(["()", "(]", "[)", "[]"])
    other = "]" if right == ")" else ")"
    good = [rf"\left{left}{a}, {b}\right{right}", f"{left}{a},{b}{right}", f"{left}{a}, \\frac{{{2 * b}}}{{2}}{right}"]
    bad = [f"{left}{b},{a}{right}", f"{left}{a},{b}{other}", f"{left}{a},{b + 1}{right}", f"{a},{b}"]
    return drawn(random, "Lists", f"{left}{a},{b}{right}", good, bad)


def notation(random: Random) -> Mutant:
    """A number or a formula in another spelling."""
    n, k = random.randrange(2, 99), random.randrange(2, 9)
    return random.choice(
        [
            drawn(
                random,
                "Notation",
                f"{n}",
                [str(n).translate(WIDE), f"{n}.0", rf"\frac{{{2 * n}}}{{2}}"],
                [f"{n}5", f"{n}.5"],
            ),
            drawn(
                random, "Notation", f"{-n}", [f"\u2212{n}", f"\u2013{n}", f"- {n}"], [f"{n}", f"--{n}", f"\u2212{n}0"]
            ),
            drawn(
                random,
                "Notation",
                rf"\sqrt{{{n}}}",
                [f"\u221a{n}", f"sqrt({n})", rf"\sqrt{{{n}}}"],
                [f"\u221a{n}0", f"{n}"],
            ),
            drawn(
                random,
                "Notation",
                f"x^{{{n}}}",
                ["x" + str(n).translate(RAISED)],
                [f"x{n}", f"{n}x", f"x^{n}"[:-1] + "z"],
            ),
            drawn(
                random,
                "Notation",
                rf"\frac{{{k - 1}}}{{9}}",
                [rf"0.\overline{{{k - 1}}}", rf"0.\dot{{{k - 1}}}"],
                [f"0.{k - 1}"],
            ),
            drawn(
                random,
                "Notation",
                f"{n}000",
                [f"{n},000", f"{n}e3", rf"{n}\times10^3", f"{n}{{,}}000"],
                [f"{n}e-3", f"{n} 000"],
            ),
            drawn(
                random, "Notation", rf"{n}\pi", [f"{n}\u03c0", f"{n}pi", rf"\pi \cdot {n}"], [f"{n}p", f"{n}", f"{n}i"]
            ),
            drawn(random, "Notation", f"x={n}", [f"{n}", f"x = {n}", f"x={n}.0"], [f"y={n}", f"x={n + 1}", f"{n + 1}"]),
        ]
    )


def joined(random: Random) -> Mutant:
    """Two numbers side by side, against their sum and against one of them."""
    a, b = random.sample(range(2, 20), 2)
    gold = random.choice([a, b, a + b])
    forms = [
        "{} {}",
        "{}{{{}}}",
        "{}({})",
        r"{}\text{{{}}}",
        r"{}\mathbf{{{}}}",
        "{} or {}",
        r"{}\text{{ and }}{}",
        r"{}\pm {}",
        "{};{}",
    ]
    return Mutant("Marks", str(gold), random.choice(forms).format(a, b), False)


KINDS: tuple[Callable[[Random], Mutant], ...] = (
    unit,
    suffix,
    multiplier,
    percentage,
    prose,
    product,
    listed,
    ordered,
    notation,
    joined,
)
