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
MARKUP = r"**{}**@__{}__@`{}`@\({}\)@${}$@{}.@ {} @\displaystyle {}@\boldsymbol{{{}}}@\mathbf{{{}}}"
MULTIPLIERS = (("hundred", 100), ("thousand", 1000), ("million", 10**6), ("billion", 10**9), ("dozen", 12))
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
        return Mutant(made.decision, made.gold, random.choice(MARKUP.split("@")).format(made.answer), made.right)
    return made


def drawn(random: Random, decision: str, gold: str, right: str, wrong: str) -> Mutant:
    """One of the answers that are right, or wrong, as often; both lists are separated by @."""
    is_right = random.random() < 0.5 or not wrong
    return Mutant(decision, gold, random.choice((right if is_right else wrong).split("@")), is_right)


def unit(random: Random) -> Mutant:
    """A number with a unit."""
    n, name = random.randrange(2, 50), random.choice(UNITS)
    if random.random() < 0.5:
        right = rf"{n}\text{{ {name}}}@{n} {name}@{n}\,\mathrm{{{name}}}@\${n}@" + f"\u20ac{n}@{n}\u00b0"
        wrong = rf"{n + 1}\text{{ {name}}}@{n}\text{{ {word(random)}}}@{n} {word(random)}@{n}{word(random)}"
        return drawn(random, "Units", str(n), right, wrong)
    one, other, third = random.choice(UNIT_SPELLINGS)
    return drawn(random, "Units", f"{n}{one}", f"{n}{other}@{n}@{n}{one}", f"{n}{third}@{n + 1}{other}")


def word(random: Random) -> str:
    """Letters that are no unit."""
    letters = "".join(random.choices("abdefiklnoprstuvy", k=random.randrange(3, 8)))
    return letters if letters not in NAMES and letters not in ("pi", "ln", "tan") else "zzz"


def suffix(random: Random) -> Mutant:
    """A number with a word that changes it, against the number."""
    n, change = random.randrange(2, 50), random.choice(CHANGES.split(";")).strip()
    forms = rf"{n}\text{{ {change}}}@{n} {change}@\text{{{n} {change}}}"
    return Mutant("Units", str(n), random.choice(forms.split("@")), False)


def multiplier(random: Random) -> Mutant:
    """A number with a word for a number."""
    n = random.randrange(2, 60)
    name, factor = random.choice(MULTIPLIERS)
    right = rf"{n}\text{{ {name}}}@{n} {name}@{n}\,\text{{{name}}}@{n} {name} people@\${n} {name}"
    wrong = rf"{n}@{n + 1}\text{{ {name}}}@{n * factor} {name}"
    return drawn(random, "Multipliers", str(n * factor), right, wrong)


def percentage(random: Random) -> Mutant:
    """A percentage against its decimal, or against its number."""
    n = random.randrange(2, 99)
    forms = rf"{n}\%@{n}%@{n}\text{{ percent}}@{n} percent@{n} per cent"
    if random.random() < 0.5:
        return Mutant("Percent", str(n), random.choice(forms.split("@")), right=False)
    return drawn(random, "Percent", f"{n / 100}", rf"{forms}@\frac{{{n}}}{{100}}", rf"{n}@{n + 1}\%@0.{n}\%")


def prose(random: Random) -> Mutant:
    """A word against itself and against its letters in another order."""
    gold = random.choice(WORDS.split())
    letters = list(gold)
    random.shuffle(letters)
    mixed, other = "".join(letters), random.choice(WORDS.split())
    right = rf"\text{{{gold}}}@{gold}@\textbf{{{gold}}}@\mathrm{{{gold}}}@({gold})"
    wrong = (
        rf"{other}@\text{{{other}}}@{gold}{gold}@not {gold}@{gold[1:]}@{mixed}@\text{{{mixed}}}@{gold}\text{{ {other}}}"
    )
    kept = [one for one in wrong.split("@") if gold.lower() not in (one.lower(), one[6:-1].lower())]
    return drawn(random, "Words", random.choice([gold, rf"\text{{{gold}}}"]), right, "@".join(kept))


def product(random: Random) -> Mutant:
    """A product of letters, which may be permuted."""
    gold = random.choice(PRODUCTS)
    digits, letters = gold.rstrip("abcdmnpquvxyz"), list(gold.lstrip("0123456789"))
    random.shuffle(letters)
    right = "@".join(digits + between.join(letters) for between in ("", " ", r" \cdot "))
    wrong = rf"{gold}{letters[0]}@{gold[:-1]}@{digits}{''.join(letters).upper()}@\text{{{gold[::-1]}}}"
    return drawn(random, "Words", gold, right, wrong)


def listed(random: Random) -> Mutant:
    """Some numbers in any order, perhaps one of them twice."""
    values = [random.randrange(-2, 5) for _ in range(random.randrange(2, 5))]
    moved = random.sample(values, len(values))
    text = [str(value) for value in moved]
    right = [", ".join(text), ",".join(text), rf"\{{{','.join(text)}\}}", r"\text{ and }".join(text), " or ".join(text)]
    changed = [values[0] + 1, *values[1:]]
    wrong = [[*moved, moved[0]], moved[1:], changed, [*moved[1:], moved[1]] if moved[0] != moved[1] else moved[1:]]
    chosen = [str(value) for value in random.choice(wrong)]
    bad = [", ".join(chosen), rf"\{{{','.join(chosen)}\}}", f"({', '.join(text)})", r"\ ".join(text)]
    return drawn(random, "Lists", ", ".join(map(str, values)), "@".join(right), "@".join(bad))


def ordered(random: Random) -> Mutant:
    """A pair or an interval."""
    a, b = sorted(random.sample(range(-5, 15), 2))
    left, right = random.choice(["()", "(]", "[)", "[]"])
    other = "]" if right == ")" else ")"
    good = rf"\left{left}{a}, {b}\right{right}@{left}{a},{b}{right}@{left}{a}, \frac{{{2 * b}}}{{2}}{right}"
    bad = f"{left}{b},{a}{right}@{left}{a},{b}{other}@{left}{a},{b + 1}{right}@{a},{b}"
    return drawn(random, "Lists", f"{left}{a},{b}{right}", good, bad)


def notation(random: Random) -> Mutant:
    """A number or a formula in another spelling."""
    n, k = random.randrange(2, 99), random.randrange(2, 9)
    wide, raised = str(n).translate(WIDE), str(n).translate(RAISED)
    spellings = (
        (f"{n}", rf"{wide}@{n}.0@\frac{{{2 * n}}}{{2}}", f"{n}5@{n}.5"),
        (f"{-n}", f"\u2212{n}@\u2013{n}@- {n}", f"{n}@--{n}@\u2212{n}0"),
        (rf"\sqrt{{{n}}}", f"\u221a{n}@sqrt({n})" + rf"@\sqrt{{{n}}}", f"\u221a{n}0@{n}"),
        (f"x^{{{n}}}", f"x{raised}", f"x{n}@{n}x@x^{str(n)[:-1]}z"),
        (rf"\frac{{{k - 1}}}{{9}}", rf"0.\overline{{{k - 1}}}@0.\dot{{{k - 1}}}", f"0.{k - 1}"),
        (f"{n}000", rf"{n},000@{n}e3@{n}\times10^3@{n}{{,}}000", f"{n}e-3@{n} 000"),
        (rf"{n}\pi", f"{n}\u03c0@{n}pi" + rf"@\pi \cdot {n}", f"{n}p@{n}@{n}i"),
        (f"x={n}", f"{n}@x = {n}@x={n}.0", f"y={n}@x={n + 1}@{n + 1}"),
    )
    return random.choice([drawn(random, "Notation", *spelling) for spelling in spellings])


def joined(random: Random) -> Mutant:
    """Two numbers side by side, against their sum and against one of them."""
    a, b = random.sample(range(2, 20), 2)
    gold = random.choice([a, b, a + b])
    forms = r"{} {}@{}{{{}}}@{}({})@{}\text{{{}}}@{}\mathbf{{{}}}@{} or {}@{}\text{{ and }}{}@{}\pm {}@{};{}"
    return Mutant("Marks", str(gold), random.choice(forms.split("@")).format(a, b), False)


KINDS: tuple[Callable[[Random], Mutant], ...] = (
    *(unit, suffix, multiplier, percentage, prose),
    *(product, listed, ordered, notation, joined),
)
