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


def uniform(seed: int, *path: str | int) -> float:
    """Return one number in (0, 1), uniformly drawn from the stream named by `path`: a draw without a generator.

    For thousands of single draws that must not depend on each other's order.
    """
    return (derive_seed(seed, *path) + 0.5) / 2.0**63
