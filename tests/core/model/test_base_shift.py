import numpy as np
import pytest

from fedcore.core.errors import ProtocolError
from fedcore.core.model.base_shift import after_step, shift_of, shift_shapes, step_of
from tests.core.aggregation.cohort import make_spec

NAME = "layers.0.q.W"


def factors(rank, *, out=6, into=4):
    rng = np.random.default_rng(rank)
    return rng.standard_normal((out, rank)), rng.standard_normal((rank, into))


def test_a_step_travels_in_its_smaller_form():
    assert set(step_of(NAME, *factors(2))) == {"layers.0.q.step_A", "layers.0.q.step_B"}  # 2 x 10 below 6 x 4
    assert set(step_of(NAME, *factors(3))) == {"layers.0.q.step"}


@pytest.mark.parametrize("rank", [1, 3])
def test_steps_add_up(rank):
    first, second = step_of(NAME, *factors(rank)), step_of(NAME, *factors(2))
    once = after_step({}, first)
    b, a = factors(rank)
    np.testing.assert_allclose(once[NAME], b @ a, atol=1e-5)
    b2, a2 = factors(2)
    np.testing.assert_allclose(after_step(once, second)[NAME], b @ a + b2 @ a2, atol=1e-5)


def test_what_does_not_fit_is_refused():
    once = after_step({}, step_of(NAME, *factors(2)))
    with pytest.raises(ProtocolError, match=r"shape \(5, 4\), expected \(6, 4\)"):
        after_step(once, step_of(NAME, *factors(2, out=5)))
    with pytest.raises(ProtocolError, match="is for 1 layers, the shift has 2"):
        after_step(once | {"layers.1.q.W": once[NAME]}, step_of(NAME, *factors(2)))
    with pytest.raises(ProtocolError, match=r"nothing for layers\.0\.q\.W"):
        after_step({}, {"layers.0.q.step_A": np.zeros((1, 4), np.float32)})


def test_names_and_shapes():
    spec = make_spec()
    assert shift_shapes(spec)["layers.1.up.W"] == (20, 24) and len(shift_shapes(spec)) == 12
    held = {NAME: np.zeros((6, 4), np.float32), "layers.0.q.A": np.zeros((2, 4), np.float32)}
    assert set(shift_of(held)) == {NAME}
