"""docs/implementations.md: its measured tables are what the code gives, and leave no recorded number out."""

import re

import pytest

from harness.config.schema import Config
from tests.losses.agreement import LEVELS
from tests.losses.published import golden, implementations
from tests.losses.published.implementations import BEGIN, END, OF_THE_HARNESS, PAGE, VECTORS

RECORDED = [(vector, name) for vector in VECTORS for name in golden.recorded(golden.load(vector))]


def page_table(title: str) -> list[dict[str, str]]:
    """The rows of a measured table as the page has it, by the names of its columns."""
    lines = PAGE.read_text().split(f"### {title}\n")[1].split("\n\n")[0].split(END)[0].strip().splitlines()
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_measured_tables_are_what_the_code_gives() -> None:
    written = PAGE.read_text()
    assert written.count(BEGIN) == written.count(END) == 1
    command = "python -m tests.losses.published.implementations"
    assert written == implementations.page_with(implementations.measured()), f"run {command}"
    assert command in written


def test_every_recorded_array_has_a_cell() -> None:
    cells = {(row["losses"], row["quantity"]): row for row in page_table("This project against each")}
    missing = set()
    for _, name in RECORDED:
        if name not in OF_THE_HARNESS:
            where = implementations.place(name)
            if not re.search(r"\(\d+\)$", cells[where.algorithm, where.quantity][where.implementation]):
                missing.add(name)
    assert missing == set()


def reasons_of(row: dict[str, str]) -> list[tuple[str, str]]:
    """The reasons that a row names, each with its number of vectors."""
    return re.findall(r"(?:^|, )([^,]+) (\d+) \([^)]+\)", row["reasons"])


def test_every_difference_between_implementations_has_a_reason() -> None:
    without = []
    for row in page_table("Each against the others"):
        differing = int(row["vectors that differ"].split()[0])
        if sum(int(count) for _, count in reasons_of(row)) < differing:
            without.append(row)
    assert without == []


def test_every_named_reason_is_explained() -> None:
    reasons = PAGE.read_text().split("## The reasons")[1].split("\n## ")[0]
    explained = set(re.findall(r"^\| ([^|]+) \|", reasons, flags=re.MULTILINE))
    rows = page_table("Each against the others")
    assert {reason for row in rows for reason, _ in reasons_of(row)} == explained - {"reason"}


def test_ties_and_inputs_are_counted() -> None:
    tied = [vector for vector in golden.LOSS_VECTORS if golden.ties(golden.load(vector)).any()]
    tokens = sum(int(golden.ties(golden.load(vector)).sum()) for vector in tied)
    text = " ".join(PAGE.read_text().split())
    assert f"{tokens} tokens at ties on {len(tied)} vectors" in text
    assert f"{len(golden.LOSS_VECTORS)} batches" in text
    assert f"{len(golden.ADVANTAGE_VECTORS)} sets of rewards" in text


@pytest.mark.parametrize("level", ["float64_sum", "float32_sum"])
def test_the_page_states_the_level(level: str) -> None:
    assert f"{LEVELS[level]:.0e}".replace("e-0", "e-") in PAGE.read_text()


def test_every_flag_named_is_one_of_the_harness() -> None:
    fields = {field for section in Config.model_fields for field in type(getattr(Config(), section)).model_fields}
    assert set(re.findall(r"--(\w+)", PAGE.read_text().replace(BEGIN, "").replace(END, ""))) <= fields | {"preset"}
