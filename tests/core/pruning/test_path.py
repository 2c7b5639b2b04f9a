import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.errors import ConfigError
from fedcore.core.model.geometry import Counts, Geometry
from fedcore.core.pruning.path import Harms, Path, make_path


def harms(
    geometry: Geometry,
    *,
    influences: list[float] | None = None,
    remove: tuple[str, ...] = ("channels", "heads", "layers"),
    seed: int | None = None,
) -> Harms:
    rng = np.random.default_rng(seed)
    layers = geometry.layers
    if seed is None:
        heads, channels = np.ones((layers, geometry.head_units)), np.ones((layers, geometry.ffn))
    else:
        heads = np.sort(rng.random((layers, geometry.head_units)), axis=1) + 1e-3
        channels = np.sort(rng.random((layers, geometry.ffn)), axis=1) + 1e-3
    values = np.array(influences or [1.0] * layers) if seed is None or influences else rng.random(layers)
    return Harms(
        geometry=geometry,
        head_shares=heads / heads.sum(axis=1, keepdims=True),
        channel_shares=channels / channels.sum(axis=1, keepdims=True),
        influences=values,
        layer_order=tuple(np.argsort(values, kind="stable").tolist()),
        remove=remove,
    )


def test_a_layer_that_changes_nothing_goes_before_anything_else(small: Geometry) -> None:
    path = make_path(harms(small, influences=[0.5, 0.0]), "")
    assert path.moves[0] == "l" and path.counts[1] == Counts(4, 20, 1)
    assert "l" not in path.moves[1:], "the last layer stays"


def test_a_layer_that_matters_goes_once_the_rest_costs_as_much(small: Geometry) -> None:
    """Two layers, influences 1 and 3. Removing the first costs 1 a layer's parameters; a quarter of all heads costs
    (1 + 3) / 4 of the heads' part for half a layer's worth: twice as much for each parameter."""
    assert make_path(harms(small, influences=[1.0, 3.0]), "").moves[0] == "l"
    unimportant = harms(small, influences=[1.0, 3.0])
    unimportant.channel_shares[:] = [0.0] * 10 + [0.1] * 10
    path = make_path(unimportant, "")
    assert path.moves[:11] == "c" * 10 + "l", "channels without any score go first"


@pytest.mark.parametrize(
    ("remove", "moves", "last"),
    [
        (("layers",), "l", Counts(4, 20, 1)),
        (("channels",), "c" * 19, Counts(4, 1)),
        (("heads",), "hhh", Counts(1, 20)),
    ],
)
def test_only_what_may_go_goes_and_something_is_left_of_it(small: Geometry, remove, moves, last) -> None:
    path = make_path(harms(small, remove=remove), "")
    assert (path.moves, path.counts[-1]) == (moves, last)


@given(seed=st.integers(0, 99), cut=st.floats(0, 0.9))
def test_a_path_only_falls_and_its_beginning_never_changes(small: Geometry, seed: int, cut: float) -> None:
    path = make_path(harms(small, seed=seed), "")
    for before, after in itertools.pairwise(path.counts):
        assert after.size_key[:2] <= before.size_key[:2] and after.removed_layers >= before.removed_layers
    assert list(path.sparsities) == sorted(set(path.sparsities))
    kept = path.at(cut)
    fixed = path.moves_to(Counts(4 - kept.heads, 20 - kept.channels, kept.removed_layers))
    other = make_path(harms(small, seed=seed + 1), fixed)
    assert other.moves.startswith(fixed) and other.counts[: len(fixed) + 1] == path.counts[: len(fixed) + 1]
    assert small.sparsity(kept) == path.sparsities[len(fixed)]


def test_the_nearest_counts_realise_a_sparsity() -> None:
    counts = (Counts(4, 20), Counts(4, 10), Counts(4, 5))
    path = Path(moves="cc", counts=counts, sparsities=(0.0, 0.4, 0.6))
    asked = (0.0, 0.2, 0.21, 0.5, 0.51, 0.9)
    assert [counts.index(path.at(sparsity)) for sparsity in asked] == [0, 0, 1, 1, 2, 2]
    with pytest.raises(ConfigError, match=r"in \[0, 1\), got 1"):
        path.at(1.0)


def test_a_wide_ffn_loses_eight_channels_at_a_time_and_what_is_over_first(minilm: Geometry) -> None:
    path = make_path(harms(minilm, remove=("channels",)), "")
    assert [each.channels for each in path.counts[:3]] == [1536, 1528, 1520] and path.counts[-1].channels == 8
