"""Draws and scores questions of Reasoning Gym: the script of a worker process (harness/tasks/workers.py).

A process of its own, because verifiers evaluate parts of a response as Python, and because some data sets depend on the
hash seed or on the global random generator.
"""

import json
import random
from functools import cache, lru_cache
from typing import Any

import reasoning_gym
from reasoning_gym.utils import SYSTEM_PROMPTS, extract_answer


def reply(name: str, settings: str, seed: int | None, response: str | None) -> tuple[Any, ...]:
    """A check of the settings (a JSON object) if no seed is given, else a question, or the score of a response."""
    if seed is None:
        return check(name, settings)
    entry = drawn(name, settings, seed)
    if response is None:
        return "question", entry["question"], entry["answer"] or ""
    answer = extract_answer(response)
    if answer is not None:
        return "right" if is_right(name, settings, entry, answer) else "wrong", None, answer, None
    readings = filter(None, (response.strip().rpartition("\n")[2], response.strip()))
    return "wrong", "no answer", None, any(is_right(name, settings, entry, reading) for reading in readings)


def check(name: str, settings: str) -> tuple[str, str]:
    """("known", the system prompt), or ("refused", what was expected)."""
    try:
        entry = drawn(name, settings, 0)
    except Exception as fault:  # whatever the data set raises
        return "refused", f"expected a task of Reasoning Gym and its settings: {str(fault) or type(fault).__name__}"
    if is_right(name, settings, entry, "nonsense"):
        return "refused", f"expected a verifier that refuses the answer 'nonsense', got {name}'s: choose another task"
    return "known", SYSTEM_PROMPTS["default"]


@lru_cache(4096)
def drawn(name: str, settings: str, seed: int) -> dict[str, Any]:
    """The only entry of the data set of this seed."""
    random.seed(seed)
    entry: dict[str, Any] = dataset(name, settings, seed)[0]
    return entry


@cache
def verifier(name: str, settings: str) -> Any:
    return dataset(name, settings, 0)


def dataset(name: str, settings: str, seed: int) -> Any:
    return reasoning_gym.create_dataset(name, **json.loads(settings), seed=seed, size=1)


def is_right(name: str, settings: str, entry: dict[str, Any], answer: str) -> bool:
    """Whether the answer has the full score. Most verifiers give less for a wrong one, and some raise an error."""
    try:
        return bool(verifier(name, settings).score_answer(answer, entry) >= 1)
    except (MemoryError, RecursionError):
        raise
    except Exception:
        return False
