"""Random numbers that depend on what they are for, never on the order in which they are drawn."""

import hashlib

import numpy as np


def stream(*key: int | str) -> np.random.Generator:
    """A counter-based generator (Philox) keyed by the purpose, for example (seed, "rollout", step, prompt, sample).

    The same key gives the same numbers in any process, on any rank, in any order; other keys give independent ones.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
