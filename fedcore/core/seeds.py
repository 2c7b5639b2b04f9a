"""Named random generators: one run seed, one independent stream per purpose."""

import hashlib
from typing import Any, cast

import numpy as np


def derive_seed(seed: int, *path: str | int) -> int:
    """Return a 63-bit seed for the stream named by `path` under the run seed.

    Streams of different paths are independent; the same path always gives the same seed, on any
    machine and in any order of calls.
    """
    text = "\x1f".join(map(str, (seed, *path)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *path: str | int) -> np.random.Generator:
    """Return the NumPy generator of the stream named by `path` under the run seed."""
    return np.random.default_rng(derive_seed(seed, *path))


def uniform(seed: int, *path: str | int) -> float:
    """Return one uniform number in (0, 1) from the stream named by `path`, without making a generator.

    Use it for thousands of single draws that must not depend on their order.
    """
    return (derive_seed(seed, *path) + 0.5) / 2.0**63


def lazy_generator(seed: int, *path: str | int) -> np.random.Generator:
    """Return a generator that draws like `generator(seed, *path)` and is seeded at the first draw.

    Seeding takes longer than a few draws, and many receivers of a stream never draw from it.
    """
    return cast(np.random.Generator, _Lazy(seed, path))


class _Lazy:
    __slots__ = ("_generator", "_path", "_seed")

    def __init__(self, seed: int, path: tuple[str | int, ...]) -> None:
        self._seed, self._path = seed, path
        self._generator: np.random.Generator | None = None

    def __getattr__(self, name: str) -> Any:
        if self._generator is None:
            self._generator = generator(self._seed, *self._path)
        return getattr(self._generator, name)
