import pytest

from analysis.records.published import benchmark_of, comparability, comparable, published, suite_of
from tests.analysis.agreement import agree

TINY = {"run": {"model": {"model": "tiny"}, "task": {"task": "graded_chain_sum"}}}


def big(model: str, eval_data: str = "aime24", split: str = "report") -> dict[str, dict[str, dict[str, str]]]:
    evaluation = {"eval_split": split}
    return {
        "run": {
            "model": {"model": model},
            "task": {"task": "math"},
            "data": {"eval_data": eval_data},
            "evaluation": evaluation,
        }
    }


def test_the_papers_tables_are_there() -> None:
    table = published()
    row = table[(table["source"] == "FIPO paper, Table 1") & (table["benchmark"] == "AIME 2024")]
    means = row[row["metric"] == "avg@32"].set_index("arm")["value"]
    assert agree([means["dapo"], means["fipo"]], [0.50, 0.56])
    decay = table[table["parameter"].eq("fipo_decay_rate") & table["benchmark"].eq("AIME 2024")]
    assert agree(decay.sort_values("at")[["at", "value"]], [[8, 0.4], [32, 0.4], [128, 0.39], [256, 0.42]])
    assert table["note"].str.len().min() > 0


def test_published_numbers_stand_beside_the_same_model_and_benchmark_alone() -> None:
    assert comparable(TINY).empty
    assert "None of the published numbers" in comparability(TINY)
    found = comparable(big("/models/Qwen2.5-32B/"))
    assert set(found["model"]) == {"Qwen/Qwen2.5-32B"}
    assert set(found["benchmark"]) == {"AIME 2024"}
    assert "as single runs" in comparability(big("Qwen/Qwen2.5-32B"))
    assert comparable(big("Qwen/Qwen2.5-32B", "math500")).empty
    assert comparable(big("Qwen/Qwen2.5-0.5B")).empty
    assert comparable({"run": big("Qwen/Qwen2.5-32B")["run"] | {"data": {}, "task": {"task": "aime_2024"}}}).empty
    both = comparable(big("Qwen/Qwen2.5-32B", "aime24, aime25"))
    assert set(both["benchmark"]) == {"AIME 2024", "AIME 2025"}


def test_problems_held_out_from_training_are_no_benchmark() -> None:
    tuned = big("Qwen/Qwen2.5-32B", split="tune")
    assert comparable(tuned).empty
    assert "(model Qwen/Qwen2.5-32B on problems held out from its training data)" in comparability(tuned)


@pytest.mark.parametrize(
    ("given", "suite", "benchmark"),
    [
        ("aime24", "aime24", "AIME 2024"),
        ("aime25@563bb84", "aime25", "AIME 2025"),
        ("files/aime_2024.parquet", "aime_2024", "AIME 2024"),
        ("files@home/AIME-2025.jsonl", "AIME-2025", "AIME 2025"),
        ("BytedTsinghua-SIA/AIME-2024:data/aime-2024.parquet@aa49075", "aime-2024", "AIME 2024"),
        ("math-ai/aime25:test.jsonl@563bb84", "test", "AIME 2025"),
        ("aime26", "aime26", None),
        ("aime24-and-more.parquet", "aime24-and-more", None),
        ("math500", "math500", None),
    ],
)
def test_a_benchmark_is_known_by_its_file_or_its_data_set(given: str, suite: str, benchmark: str | None) -> None:
    assert (suite_of(given), benchmark_of(given)) == (suite, benchmark)
