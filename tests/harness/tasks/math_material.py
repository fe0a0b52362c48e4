"""Small data of the published schemas, and a Qwen2.5-shaped model whose tokenizer is trained on them."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tokenizers
import torch
import transformers

from harness.backends.torch_setup import set_up_torch
from harness.config.task import DataSettings
from harness.model.packing import pack_batch
from harness.model.policy import Policy, write_policy
from harness.tasks.math.questions import DAPO_AFTER, DAPO_BEFORE
from harness.tasks.math.task import math_prompts
from harness.tasks.task import Question

END, TURN, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
# as Qwen2.5's tokenizers have it, base models' too
TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ANSWERS = 3  # the answers are 0, 1 and 2: chance is right often enough to learn from
TAUGHT_STEPS = 50


def problems(first: int, count: int) -> list[tuple[str, str]]:
    """Problems with their answers."""
    return [(f"What is {n} modulo {ANSWERS}?", str(n % ANSWERS)) for n in range(first, first + count)]


def dapo_rows(asked: Sequence[tuple[str, str]], times: int = 1) -> list[dict[str, Any]]:
    """Rows as DAPO-Math-17k and its AIME 2024 have them, each problem several times."""
    return [
        {
            "data_source": "math_dapo",
            "prompt": [{"role": "user", "content": f"{DAPO_BEFORE}{problem}{DAPO_AFTER}"}],
            "ability": "MATH",
            "reward_model": {"ground_truth": answer, "style": "rule-lighteval/MATH_v2"},
            "extra_info": {"index": f"{index}-{time}"},
        }
        for time in range(times)
        for index, (problem, answer) in enumerate(asked)
    ]


def write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return str(path)


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a JSONL file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def data_files(folder: Path) -> dict[str, str]:
    """A training file and two benchmarks, as flags name them."""
    train = write_parquet(folder / "train.parquet", dapo_rows(problems(100, 96), times=2))
    aime24 = write_parquet(folder / "aime24.parquet", dapo_rows(problems(10, 4), times=4))
    rows = [
        {"problem": problem, "answer": answer, "id": index} for index, (problem, answer) in enumerate(problems(20, 4))
    ]
    aime25 = write_jsonl(folder / "aime25.jsonl", rows)
    return {"train_data": train, "eval_data": f"{aime24},{aime25}"}


@cache
def tokenizer() -> Any:
    """Byte-level BPE trained on the problems, with Qwen's special tokens and chat template."""
    texts = [f"{DAPO_BEFORE}{problem}{DAPO_AFTER} \\boxed{{{answer}}}" for problem, answer in problems(0, 200)]
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=[END, TURN, TURN_END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=END, pad_token=END, chat_template=TEMPLATE
    )


@cache
def answering_policy() -> Policy:
    """A Qwen2 with random weights, shown for two seconds how an answer is given, not which: a third are right."""
    set_up_torch(threads=1)
    own = tokenizer()
    shape = transformers.Qwen2Config(
        vocab_size=len(own),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,  # heads of 32: vLLM's CPU kernels know none smaller
        intermediate_size=128,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.08,
        pad_token_id=own.pad_token_id,
        eos_token_id=own.eos_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    model = transformers.Qwen2ForCausalLM(shape)
    ends = [own.eos_token_id, own.convert_tokens_to_ids(TURN_END)]
    model.generation_config.eos_token_id = ends
    policy = Policy(model.eval(), own, frozenset(ends))
    teach(policy)
    return policy


def teach(policy: Policy) -> None:
    """Show both forms of an answer, each under the words that ask for it."""
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=5e-3)
    for step in range(TAUGHT_STEPS):
        answer_format, form = (("answer_line", "Answer: {}"), ("boxed", "\\boxed{{{}}}"))[step % 2]
        questions = [Question(problem, answer) for problem, answer in problems(300 + 16 * step, 16)]
        prompts = math_prompts(questions, DataSettings(answer_format=answer_format), policy)
        batch = pack_batch(
            [policy.encode(problem.prompt) for problem in prompts],
            [policy.encode(form.format(index % ANSWERS) + TURN_END) for index in range(len(prompts))],
            policy.device,
        )
        logprobs, _ = policy.logprobs(batch, 1.0)
        (-(logprobs * batch.mask).sum() / batch.mask.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()


def save_model(folder: Path) -> str:
    """That policy as a transformers folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_policy(folder, answering_policy())
    return str(folder)
