"""Named random generators: one run seed, one independent stream per purpose."""

import hashlib

import numpy as np


def derive_seed(seed: int, *path: str | int) -> int:
    """Return a 63-bit seed for the stream named by `path` under the run seed.

    Streams of different paths are independent; the same path always gives the same seed, on any
    machine and in any order of calls.
    """
    text = "\x1f".join([str(seed), *(str(part) for part in path)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *path: str | int) -> np.random.Generator:
    """Return the NumPy generator of the stream named by `path` under the run seed."""
    return np.random.default_rng(derive_seed(seed, *path))
