import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.aggregation.bundle.balanced import balanced_factors


def balance(b, a, rank, tolerance=1e-12):
    return balanced_factors(b, a, rank=rank, tolerance=tolerance, rng=np.random.default_rng(0))


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    out=st.integers(1, 12),
    into=st.integers(1, 12),
    width=st.integers(1, 20),
    rank=st.integers(1, 20),
)
def test_best_approximation_of_its_rank(seed, out, into, width, rank):
    rng = np.random.default_rng(seed)
    b, a = rng.standard_normal((out, width)), rng.standard_normal((width, into))
    new = balance(b, a, rank)
    values = np.linalg.svd(b @ a, compute_uv=False)
    assert new.b.shape == (out, rank) and new.a.shape == (rank, into)
    assert new.energy == pytest.approx(np.sum(values**2))
    assert new.dropped == pytest.approx(np.sum(values[rank:] ** 2), abs=1e-12 * new.energy)
    error = np.sum((b @ a - new.b @ new.a) ** 2)
    assert error == pytest.approx(new.dropped, rel=1e-9, abs=1e-20 * new.energy)


@pytest.mark.parametrize("width", [3, 30])  # through QR, and through the dense product
def test_every_prefix_is_the_best_of_its_rank(width):
    rng = np.random.default_rng(1)
    b, a = rng.standard_normal((10, width)), rng.standard_normal((width, 8))
    new = balance(b, a, 6)
    u, s, vt = np.linalg.svd(b @ a)
    for rank in range(1, 4):
        best = (u[:, :rank] * s[:rank]) @ vt[:rank]
        np.testing.assert_allclose(new.b[:, :rank] @ new.a[:rank], best, atol=1e-12)


def test_both_sides_share_the_energy_and_signs_are_fixed():
    rng = np.random.default_rng(2)
    b, a = rng.standard_normal((10, 3)), rng.standard_normal((3, 8))
    new, mirrored = balance(b, a, 3), balance(-b, -a, 3)
    np.testing.assert_allclose(np.linalg.norm(new.b, axis=0), np.linalg.norm(new.a, axis=1))
    assert np.all(new.b[np.argmax(np.abs(new.b), axis=0), np.arange(3)] > 0)
    np.testing.assert_allclose(new.b, mirrored.b, atol=1e-12)


def test_empty_components_can_learn_again():
    b, a = np.array([[2.0, 0.0], [0.0, 1e-9]]), np.eye(2)
    new = balance(b, a, 4, tolerance=1e-6)
    assert not new.b[:, 1:].any()
    assert np.all(new.a[1:] != 0) and np.all(np.abs(new.a[1:]) <= 1 / np.sqrt(2))
    assert new.dropped == pytest.approx(1e-18)


def test_a_zero_product_is_all_empty():
    new = balance(np.zeros((4, 2)), np.ones((2, 3)), 2)
    assert not new.b.any() and new.a.all() and new.energy == 0.0 and new.dropped == 0.0


def test_float32_stays_float32():
    rng = np.random.default_rng(3)
    b, a = rng.standard_normal((6, 2)).astype(np.float32), rng.standard_normal((2, 5)).astype(np.float32)
    new = balance(b, a, 4, tolerance=1e-6)
    assert new.b.dtype == new.a.dtype == np.float32
    assert np.linalg.norm(new.b @ new.a - b @ a) <= 1e-6 * np.linalg.norm(b @ a)


@pytest.mark.parametrize("shape", [(20, 50), (50, 20)])
def test_a_steep_spectrum_loses_no_more_than_float32_would(shape):
    rng = np.random.default_rng(4)
    left = np.linalg.qr(rng.standard_normal((shape[0], 20)))[0]
    right = np.linalg.qr(rng.standard_normal((shape[1], 20)))[0]
    b, a = left * np.logspace(0, -12, 20), right.T
    new = balance(b, a, 18, tolerance=0.0)
    assert np.linalg.norm(b @ a - new.b @ new.a, 2) < 3e-8
    leading = np.sum(new.b**2, axis=0)[:10]
    np.testing.assert_allclose(leading, np.logspace(0, -12, 20)[:10], rtol=1e-6)


def test_the_dense_and_the_stacked_way_agree():
    rng = np.random.default_rng(5)
    b, a = rng.standard_normal((30, 12)), rng.standard_normal((12, 40))
    thin = balance(b, a, 6)
    padded = balance(np.hstack([b, np.zeros((30, 20))]), np.vstack([a, np.ones((20, 40))]), 6)
    np.testing.assert_allclose(thin.b, padded.b, atol=1e-10)
    np.testing.assert_allclose(thin.a, padded.a, atol=1e-10)
    assert thin.dropped == pytest.approx(padded.dropped)
