"""GSM8K's rows, from file to ten steps of a small model.

The rows are written here in GSM8K's form, with its calculator annotations and thousands separators. With GSM8K_DATA,
the folder of train.jsonl and test.jsonl of github.com/openai/grade-school-math, GSM8K's own rows are read as well.
"""

import json
import math
import os
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from harness.config.resolve import resolve
from harness.model.policy import Policy, write_policy
from harness.tasks.math.checker import MathChecker
from harness.tasks.math.files import data_file
from harness.tasks.math.questions import read_questions
from tests.harness import runs
from tests.harness.tasks import math_material as material

REAL = os.environ.get("GSM8K_DATA")
GSM8K_RULE = re.compile(r"#### (\-?[0-9\.\,]+)")  # grade_school_math/dataset.py, which then drops the commas
Row = dict[str, str]


def written(first: int, count: int) -> list[Row]:
    """Rows in GSM8K's form; some answers have thousands separators, some are negative."""
    return [
        {
            "question": f"A farmer sells {n} crates at ${price} each and pays ${cost} for the truck. What is left?",
            "answer": f"The crates bring {n}*{price} = $<<{n}*{price}={n * price}>>{n * price}.\nSo there is "
            f"{n * price} - {cost} = $<<{n * price}-{cost}={n * price - cost}>>{n * price - cost} left.\n"
            f"#### {n * price - cost:,}",
        }
        for n in range(first, first + count)
        for price, cost in [(13 * n % 90 + 5, 170)]
    ]


@pytest.fixture(scope="module", params=["written", "published"])
def rows(request: pytest.FixtureRequest) -> dict[str, list[Row]]:
    if request.param == "written":
        return {"train": written(2, 40), "test": written(60, 12)}
    if not REAL:
        pytest.skip("needs GSM8K_DATA, a folder with GSM8K's train.jsonl and test.jsonl")
    lines = {
        name: (Path(REAL) / f"{name}.jsonl").read_text(encoding="utf-8").splitlines() for name in ("train", "test")
    }
    return {name: [json.loads(line) for line in lines[name][:most]] for name, most in (("train", 40), ("test", 12))}


def test_gold_answers_are_gsm8ks_and_its_solutions_are_right(rows: dict[str, list[Row]], tmp_path: Path) -> None:
    for name, split in rows.items():
        file = material.write_jsonl(tmp_path / f"{name}.jsonl", split)
        read = read_questions(data_file(file, "train_data"), "train_data").distinct
        golds = [match[1].replace(",", "") for row in split if (match := GSM8K_RULE.search(row["answer"]))]
        assert [question.answer.replace(",", "") for question in read] == golds
        for answer_format in ("hash", "last_number"):
            with closing(MathChecker(answer_format=answer_format)) as checker:
                pairs = [(question.answer, row["answer"]) for question, row in zip(read, split, strict=True)]
                assert {grade.outcome for grade in checker.check(pairs)} == {"right"}


@pytest.mark.train
def test_a_model_of_a_million_parameters_takes_ten_steps(rows: dict[str, list[Row]], tmp_path: Path) -> None:
    files = {name: material.write_jsonl(tmp_path / f"{name}.jsonl", split) for name, split in rows.items()}
    flags: dict[str, Any] = {"task": "math", "train_data": files["train"], "eval_data": files["test"]}
    flags |= {"loss_type": "fipo", "model": million_parameters(tmp_path / "model", rows["train"]), "steps": 10}
    flags |= {"answer_format": "hash", "prompts_per_step": 4, "group_size": 4, "minibatches": 2, "eval_prompts": 12}
    flags |= {"max_prompt_tokens": 700, "max_response_tokens": 12, "final_eval_samples": 1, "give_up_after": None}
    (tmp_path / "brief.py").write_text("def brief(prompt, response, answer):\n    return -len(response) / 100\n")
    flags |= {"dynamic_sampling": False, "reward": f"{tmp_path}/brief.py:correct=1,brief=1"}  # none is right by chance
    run = runs.trained(resolve(flags), tmp_path / "run")
    data = runs.read_json(run.path / "environment.json")["data"]
    assert (data["training"]["rows"], data["evaluation"]["test"]["prompts"]) == (40, 12)
    lines = runs.metrics(run)
    assert len(lines) == 10
    assert all(math.isfinite(value) for line in lines for value in line.values() if isinstance(value, float))
    assert all(line["optimizer/grad_norm"] > 0 for line in lines)
    assert all({"rollout/accuracy", "rollout/lenient_accuracy"} <= line.keys() for line in lines)
    asked = {row["question"] for row in rows["train"]}
    responses = runs.rows(run, "rollouts")
    assert all(any(question in row["prompt"] for question in asked) for row in responses)
    assert all(isinstance(row[reading], bool) for row in responses for reading in ("correct", "correct_leniently"))


def million_parameters(folder: Path, rows: list[Row]) -> str:
    """A Qwen2 with random weights and a byte-level tokenizer trained on the rows."""
    own = material.trained_tokenizer([text for row in rows for text in row.values()])
    shape = transformers.Qwen2Config(
        vocab_size=len(own),
        hidden_size=128,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=384,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=own.pad_token_id,
        eos_token_id=own.eos_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    model = transformers.Qwen2ForCausalLM(shape)
    assert 0.9e6 < model.num_parameters() < 1.1e6
    folder.mkdir()
    write_policy(folder, Policy(model.eval(), own, frozenset({own.eos_token_id})))
    return str(folder)
