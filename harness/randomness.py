"""Random numbers that depend on what they are for, never on the order in which they are drawn."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def stream(*key: int | str) -> np.random.Generator:
    """A counter-based generator (Philox) keyed by the purpose, for example (seed, "rollout", step, prompt, sample).

    The same key gives the same numbers in any process, on any rank, in any order; other keys give independent ones.
    """
    return np.random.Generator(np.random.Philox(key=words_of(key)))


def uniforms(keys: Sequence[tuple[int | str, ...]], count: int) -> Float[np.ndarray, "key count"]:
    """The first numbers of each key's stream; reusing one generator takes a third of the time."""
    philox = np.random.Philox(key=0)
    generator, state = np.random.Generator(philox), philox.state
    drawn = np.empty((len(keys), count))
    for row, key in zip(drawn, keys, strict=True):
        state["state"]["key"] = words_of(key)
        philox.state = state
        generator.random(out=row)
    return drawn


def words_of(key: tuple[int | str, ...]) -> np.ndarray:
    """The two words that key a stream."""
    return np.frombuffer(hashlib.blake2b(repr(key).encode(), digest_size=16).digest(), dtype="<u8")
