# ruff: noqa: RUF001 - the characters are its subject
"""What an answer may differ in from the gold answer (docs/math-answers.md), and what the self-test says of failures."""

import pytest

from harness.errors import HarnessError
from harness.tasks.math.checker import KNOWN, MathChecker

# gold: answers that are right, answers that are wrong
UNITS = {
    "5": (
        r"5\text{ cm} @ 5 cm @ 5cm @ 5\,\mathrm{cm} @ \text{5 cm} @ 5 apples @ \$5 @ €5 @ 5 cents @ 5^\circ",
        r"5\text{ below zero} @ 5\text{ squared} @ 5\text{ less} @ 5\text{ factorial} @ 5\text{ pairs}"
        r" @ 5\text{ tenths} @ 5\text{ per million} @ 5\text{ more apples} @ 5\text{ K} @ 5 m"
        r" @ 5m @ 2\text{ dozen} @ ~5 @ 5'",
    ),
    r"5\text{ m}^2": (
        r"5 @ 5\text{ square meters} @ 5\text{ sq m} @ 5 m^2",
        r"5\text{ m} @ 5\text{ cm}^2 @ 25\text{ m}",
    ),
    r"5\text{ km/h}": (
        r"5 km/h @ 5 kilometers per hour @ 5\ \frac{\text{km}}{\text{h}}",
        r"5 mph @ 5\text{ km} @ 5\text{ h}",
    ),
    r"5\text{ N m}": (r"5\text{ m}\cdot\text{N} @ 5", r"5\text{ N} @ 5\text{ N}\cdots"),
    r"5\text{ m s}^{-1}": (r"5\text{ m/s} @ 5", r"5\text{ m s} @ 5/s"),
    r"\$5": ("5 dollars @ 5 USD", "5 cents @ £5"),
    r"10^\circ\text{C}": ("10 °C @ 10 degrees Celsius @ 10", "10 °F @ 10°"),
    r"5\text{ mW}": ("5 milliwatts", r"5\text{ MW}"),
    r"5\text{ widgets}": (r"5.0\text{ widgets}", r"5 @ 5\text{ gadgets} @ 6\text{ widgets}"),
    "5, 6": (r"5\text{ cm}, 6\text{ cm} @ 5, 6 cm", r"5\text{ cm}, 6\text{ kg}"),
    r"\sin 30^\circ": ("0.5", r"\sin 30"),
    "5mg": ("5gm", "5 @ 5kg"),  # m times g
    "x_2": ("x_{2}", "x @ x_1"),
}
MULTIPLIERS = {
    "5": ("5.0", r"5\text{ million} @ 5 thousand @ 5 hundred @ 5 percent @ 5 per cent @ 5\%"),
    r"5\text{ million}": (
        r"5000000 @ 5\text{ Million} @ \$5,000,000 @ 5\times10^6 @ 5 million",
        r"5 @ 5\text{ billion}",
    ),
    r"5\%": (r"0.05 @ 5 percent @ 5\text{ per cent} @ 5 pct", "5 @ 0.5"),
    "24": ("2 dozen @ 2 dozen eggs", "2 hundred"),
    "300000": ("3 hundred thousand", "300 million"),
}
WORDS = {
    "BAC": (r"\text{BAC} @ \mathrm{BAC}", r"CAB @ bac @ \text{CAB} @ \overline{BAC}"),
    r"\text{AEBDC}": ("AEBDC", r"\text{ABCDE} @ ABCDE"),
    r"\text{east}": ("East @ EAST @ \\textbf{east}", "seat @ west @ e a s t"),
    "no": (r"No @ \text{NO}", "on @ yes @ not no"),
    r"\text{Evelyn}": ("Evelyn @ evelyn", "Eve @ Evelyn Bob"),
    "A": (r"\text{A} @ (A) @ \textbf{(A)}", "a @ B @ A, B"),
    r"\text{A}, \text{C}": ("A, C @ A,C @ A and C", "A @ A, B @ AC"),
    "Bob, Al": (r"\text{Bob}, \text{Al} @ Bob and Al", "Al, Bob @ Bob Al"),
    "New York": (r"\text{New York}", "York New @ NewYork"),
    "2 red 3 blue": (r"2\text{ red }3\text{ blue}", "3 red 2 blue @ 6 red blue"),
    "hht": ("HHT", "thh"),
    "Bob's": ("Bob\u2019s", "Bob"),
    "xy": ("yx @ y x @ y \\cdot x", "xx @ XY @ \\text{yx}"),
    "abc": ("cba @ bca", "ABC @ abd"),
    "2xy": ("2yx @ xy2", "2Xy"),
    "2AB": (r"AB \cdot 2", "2BA"),
    "xe^{x}": ("e^x x", "ex^{x}"),
    "a+bi": ("bi+a", "a+b"),
    "x": ("{x}", r"X @ x\text{ squared}"),
}
LISTS = {
    "1,2": (r"2,1 @ \{2,1\} @ 1,\frac{4}{2} @ 1\text{ and }2", r"1,2,2 @ \{1,2,2\} @ 1,1 @ 1,\frac{2}{2},2"),
    "1,2,2": ("2,1,2 @ 2,2,1", r"1,2 @ 1,1,2 @ \{1,2\}"),
    "-2, 2": (r"-2 \text{ and } 2 @ 2 \text{ or } -2 @ \pm 2 @ x = -2 or x = 2", "-2 @ 2 @ x=-2, y=2"),
    r"\begin{pmatrix}1\\3/2\end{pmatrix}": (
        r"\begin{pmatrix}1\\1.5\end{pmatrix} @ \begin{bmatrix}1\\ \frac{3}{2}\end{bmatrix}",
        r"\begin{pmatrix}1&3/2\end{pmatrix} @ \begin{pmatrix}1\\2\end{pmatrix}",
    ),
    "(1,2)": ("(1, 2)", "(2,1) @ 1,2 @ (1,2,2)"),
}
NOTATION = {
    r"\frac{1}{2}": ("½ @ 1⁄2 @ \\dfrac12 @ \\boldsymbol{\\frac{1}{2}} @ \\displaystyle\\tfrac{1}{2}", "1½"),
    r"\frac{5}{2}": ("2½ @ 2\\frac12", "2(½)"),
    r"\sqrt{x+1}": ("√(x+1) @ sqrt(x+1)", "√x+1"),
    r"\frac{\sqrt{2}}{2}": ("√2/2 @ √2÷2", "√(2/2)"),
    "x^{-2}": ("x⁻² @ 1/x²", "x²"),
    "x_{12}": ("x₁₂", "x₁2"),
    "12": (
        "１２ @ \u200b12 @ 𝟏𝟐 @ 3×4 @ 3·4 @ \\mathbf{12} @ \\color{red}{12}",
        "５{７} @ 5(7) @ 5\\text{7} @ 5\\mathbf{7}",
    ),
    "-5": ("−5 @ –5 @ - 5", "5"),
    r"2\pi": ("2π @ 2pi", "2p @ π"),
    r"x\leq 3": ("x ≤ 3 @ x\\leqslant3 @ 3 ≥ x", "x<3"),
    r"\emptyset": (r"\varnothing @ ∅ @ \{\}", r"0 @ \{0\}"),
    r"(-\infty,3]": (r"(−∞, 3] @ \left(-\infty,3\right]", "(-∞,3)"),
    r"\frac13": (r"0.\overline{3} @ 0.\dot{3} @ 0.\bar3 @ 0.(3) @ 0.3̅", "0.3 @ 0.333 @ 0.333..."),
    r"\frac16": (r"0.1\overline{6}", "0.1(6)"),
    r"\frac17": (r"0.\overline{142857} @ 0.\dot{1}4285\dot{7}", r"0.\overline{14285}"),
    "70000": (
        r"70,000 @ 70{,}000 @ 70\,000 @ 70\text{ thousand} @ $70,000$ @ $70,000" " @ 70\u2009000",
        "70 000 @ 70,00",
    ),
    "1e-05": (r"0.00001 @ 10^{-5} @ 1E-5 @ 1\times10^{-5} @ 1×10⁻⁵", "e-5 @ 1e-5x @ 1e5"),
    "1e+16": ("10^{16} @ 10000000000000000", "1e16x"),
    "e-5": ("-5+e", "1e-5"),
}
CASES = [
    (gold, answer, outcome)
    for table in (UNITS, MULTIPLIERS, WORDS, LISTS, NOTATION)
    for gold, answers in table.items()
    for outcome, some in zip(("right", "wrong"), answers, strict=True)
    for answer in some.split(" @ ")
]


@pytest.mark.parametrize("answer_format", ["boxed", "answer_line"])
def test_each_decision(checker: MathChecker, monkeypatch: pytest.MonkeyPatch, answer_format: str) -> None:
    monkeypatch.setattr(checker, "answer_format", answer_format)
    form = {"boxed": r"So \boxed{%s}.", "answer_line": "Answer: %s"}[answer_format]
    grades = checker.check([(gold, form.replace("%s", answer)) for gold, answer, _ in CASES])
    got = [(gold, answer, grade.outcome) for (gold, answer, _), grade in zip(CASES, grades, strict=True)]
    different = sorted(set(got) - set(CASES))
    assert not different


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (("7", r"\boxed{7}", "wrong"), r"boxed\{7\}' to be wrong for the gold answer '7', got right$"),
        (("5", r"\boxed{((}", "right"), r"to be right for the gold answer '5', got wrong because of: unreadable$"),
    ],
)
def test_self_test_names_the_first_pair_that_comes_out_otherwise(
    checker: MathChecker, monkeypatch: pytest.MonkeyPatch, known: tuple[str, str, str], words: str
) -> None:
    monkeypatch.setitem(KNOWN, "boxed", [KNOWN["boxed"][0], known, ("8", r"\boxed{8}", "wrong")])
    with pytest.raises(HarnessError, match=words):
        checker.self_test()
