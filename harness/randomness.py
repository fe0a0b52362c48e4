"""Random streams keyed by their purpose, so that numbers never depend on the order in which they are drawn."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def stream(*key: int | str) -> np.random.Generator:
    """A counter-based generator (Philox) keyed by its purpose, for example (seed, "rollout", step, prompt, sample).

    The same key gives the same numbers in any process, on any rank and in any order; different keys give independent
    streams.
    """
    return np.random.Generator(np.random.Philox(key=words_of(key)))


def uniforms(keys: Sequence[tuple[int | str, ...]], count: int) -> Float[np.ndarray, "key count"]:
    """The first `count` uniform numbers in [0, 1) of each key's stream, in a third of the time that `stream` takes."""
    philox = np.random.Philox(key=0)
    generator, state = np.random.Generator(philox), philox.state
    drawn = np.empty((len(keys), count))
    for row, key in zip(drawn, keys, strict=True):
        state["state"]["key"] = words_of(key)
        philox.state = state
        generator.random(out=row)
    return drawn


def words_of(key: tuple[int | str, ...]) -> np.ndarray:
    """The two 64-bit words that key Philox."""
    return np.frombuffer(hashlib.blake2b(repr(key).encode(), digest_size=16).digest(), dtype="<u8")
