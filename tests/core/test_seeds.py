import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.seeds import derive_seed, generator, lazy_generator

PARTS = st.text("abc-0123456789", max_size=8) | st.integers(-5, 10**6)
PATHS = st.lists(PARTS, max_size=4)


def test_a_seed_is_the_top_63_bits_of_the_path_s_hash() -> None:
    digest = hashlib.sha256(b"7\x1ftrain\x1f3\x1fnx-0").digest()
    assert derive_seed(7, "train", 3, "nx-0") == int.from_bytes(digest[:8], "big") // 2


def test_seeds_never_change_between_versions() -> None:
    # A resumed or replayed run draws what it drew before only while these stay.
    assert derive_seed(0, "bandit", 1, "agx-0") == 787423633708394200
    assert generator(0, "initial adapter").integers(1 << 32) == 873949274


@given(st.integers(0, 2**63 - 1), PATHS)
def test_seeds_fit_every_generator_and_the_wire(seed: int, path: list[str | int]) -> None:
    assert 0 <= derive_seed(seed, *path) < 2**63


@given(st.integers(0, 99), PATHS, st.integers(0, 99), PATHS)
def test_different_streams_have_different_seeds(
    one: int, one_path: list[str | int], two: int, two_path: list[str | int]
) -> None:
    same = (one, *map(str, one_path)) == (two, *map(str, two_path))
    assert (derive_seed(one, *one_path) == derive_seed(two, *two_path)) == same


def test_streams_look_independent() -> None:
    draws = np.stack([generator(0, "stream", index).standard_normal(2000) for index in range(8)])
    correlation = np.corrcoef(draws) - np.eye(8)
    assert np.abs(correlation).max() < 0.12  # five standard errors


def test_a_lazy_generator_draws_what_the_eager_one_draws() -> None:
    lazy, eager = lazy_generator(7, "a", 1), generator(7, "a", 1)
    assert lazy.integers(100) == eager.integers(100) and lazy.uniform(0, 2) == eager.uniform(0, 2)
    np.testing.assert_array_equal(lazy.choice(9, 4, replace=False), eager.choice(9, 4, replace=False))
