"""The tiny model: a Qwen2 with 100,800 parameters, warm-started on demonstrations of a task, and cached."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.errors import HarnessError
from harness.files import cache_folder
from harness.model.packing import pack_batch
from harness.model.policy import Policy, write_policy
from harness.randomness import stream
from harness.rollouts.sampler import Sampling, sample
from harness.run.folder import cached
from harness.tasks.demonstrated import CHARACTERS, Demonstrated, Stage
from harness.tasks.task import belongs_to
from harness.tasks.tiny import DEMONSTRATED

PAD, END = "_", "$"
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 192,
    "tie_word_embeddings": True,
    "initializer_range": 0.08,
    "max_position_embeddings": 256,
}
# Part of the cache key. Raise it with every change that affects the weights, in this file or in code that it calls;
# tests/harness/run/test_tiny_model.py notices such a change.
RECIPE_VERSION = 1
BATCH = 64
TARGET_TOKENS = 2048  # constant divisor of the loss: a mean over each batch would favour short answers
WARMUP_STEPS = 50
CHECK_EVERY, CHECK_PROMPTS, CHECK_TOKENS = 25, 256, 72

Progress = Callable[[int, int], None]


def tiny_model_folder(task: str, model_seed: int, threads: int, progress: Progress | None = None) -> Path:
    """The cached transformers folder of the warm-started tiny model, which is trained first if it is missing.

    The cache key covers everything that determines the weights. Other processes wait for the one that trains. After
    each step `progress(done, total)` is called. Raises UsageError if the cache cannot be written.
    """
    folder = cache_folder() / "tiny" / f"{task}-{cache_key(task, model_seed, threads)}"
    recipe = DEMONSTRATED[task], model_seed, progress
    return cached(folder, "FIPO_HARNESS_CACHE", lambda new: write_policy(new, warm_started(*recipe)))


def cache_key(task: str, model_seed: int, threads: int) -> str:
    """Hash of the recipe and of everything that affects the last bits of the weights."""
    import tokenizers
    import transformers

    recipe = {
        "task": repr(DEMONSTRATED[task]),
        "model_seed": model_seed,
        "version": RECIPE_VERSION,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "numpy": np.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": threads,
    }
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def warm_started(task: Demonstrated[Any], model_seed: int, progress: Progress | None = None) -> Policy:
    """A new policy, trained on the task's stages of demonstrations. Raises HarnessError if a stage falls short."""
    policy = fresh_policy(model_seed)
    total, done = sum(stage.steps for stage in task.stages), 0
    for number, stage in enumerate(task.stages):
        optimizer = torch.optim.AdamW(policy.model.parameters(), lr=stage.lr, betas=(0.9, 0.98), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARMUP_STEPS))
        for step in range(stage.steps):
            if is_good_enough(policy, task, stage, (model_seed, number, step)):
                total -= stage.steps - step
                break
            demonstration_loss(policy, demonstrations(policy, task, stage, (model_seed, number, step))).backward()
            torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            done += 1
            if progress:
                progress(done, total)
        else:
            if stage.until_accuracy is not None:
                raise HarnessError(
                    f"warm start: expected accuracy {stage.until_accuracy} within {stage.steps} steps of stage "
                    f"{number + 1}, but it was not reached: try another --model_seed"
                )
    return policy


def is_good_enough(policy: Policy, task: Demonstrated[Any], stage: Stage[Any], key: tuple[int, int, int]) -> bool:
    """Whether the policy has reached `until_accuracy`; checked on training prompts, every CHECK_EVERY steps."""
    if stage.until_accuracy is None or key[2] % CHECK_EVERY:
        return False
    generator = stream("warm start check", *key)
    problems = task.draw_problems("train", CHECK_PROMPTS, generator, set())
    prompts = [policy.encode(problem.prompt) for problem in problems]
    drawn = sample(policy, prompts, generator.random((CHECK_PROMPTS, CHECK_TOKENS)), Sampling(CHECK_TOKENS))
    texts = [policy.decode(one.tokens) for one in drawn]
    right = [grade.outcome == "right" for grade in task.grade(list(zip(problems, texts, strict=True)))]
    return sum(right) / len(right) >= stage.until_accuracy


def fresh_policy(model_seed: int, **changes: Any) -> Policy:
    """The tiny model with random weights, its shape overridden by `changes`, and its character tokenizer."""
    import transformers

    tokenizer = character_tokenizer()
    settings = transformers.Qwen2Config(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        **SHAPE | changes,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream(model_seed, "initial weights").integers(2**63)))
        model = transformers.Qwen2ForCausalLM(settings)
    return Policy(model.eval(), tokenizer, frozenset({tokenizer.eos_token_id}))


def character_tokenizer() -> Any:
    """A transformers tokenizer with one token per character of the tasks."""
    import tokenizers
    import transformers

    vocabulary = {character: index for index, character in enumerate(PAD + END + CHARACTERS)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=PAD))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("."), "isolated")
    backend.decoder = tokenizers.decoders.Fuse()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=PAD, eos_token=END)


Demonstration = tuple[list[int], list[int]]  # tokens of a prompt and of a response


def demonstrations(
    policy: Policy, task: Demonstrated[Any], stage: Stage[Any], key: tuple[int, int, int]
) -> list[Demonstration]:
    """A batch of demonstrations for training prompts; held-out prompts are never used."""
    generator = stream("warm start", *key)
    shares = [share for share, _ in stage.styles]
    batch: list[Demonstration] = []
    while len(batch) < BATCH:
        problem = task.draw_with(generator, stage.terms)
        if belongs_to(problem, "train"):
            style = stage.styles[generator.choice(len(shares), p=shares)][1]
            response = task.demonstration(problem, style, generator)
            batch.append((policy.encode(problem.prompt), policy.encode(response + END)))
    return batch


def demonstration_loss(policy: Policy, demonstrated: list[Demonstration]) -> torch.Tensor:
    """Cross-entropy summed over the response tokens, divided by TARGET_TOKENS."""
    prompts, responses = zip(*demonstrated, strict=True)
    logprobs, _ = policy.logprobs(pack_batch(prompts, responses, policy.device), temperature=1.0)
    return -logprobs.sum() / TARGET_TOKENS
