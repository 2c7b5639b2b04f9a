import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.errors import ModelError
from fedcore.core.model.geometry import Geometry
from fedcore.core.model.keep_set import KeepSet
from fedcore.nn.training.moments import BETAS, Holding, Moment, follow
from fedcore.nn.training.optimizer import make_optimizer, moments, restore

GEOMETRY = Geometry(
    family="llama",
    model_type="llama",
    layers=1,
    hidden=4,
    query_heads=4,
    kv_heads=2,
    head_dim=1,
    ffn=6,
    vocab=8,
    positions=0,
    token_types=0,
    qkv_bias=False,
    o_bias=False,
    ffn_bias=False,
)


def keep(heads: tuple[int, ...], channels: tuple[int, ...]) -> KeepSet:
    return KeepSet(heads=(heads,), channels=(channels,))


FULL = KeepSet.full(GEOMETRY)


def counting(shape: tuple[int, int], step: int = 5) -> Moment:
    values = np.arange(1, 1 + shape[0] * shape[1], dtype=np.float32).reshape(shape)
    return Moment(first=values, second=values * 10, step=step)


def test_rows_of_b_follow_a_cut() -> None:
    after = Holding(keep_set=keep((1,), (0, 5)), rank=2)
    moved = follow(
        {"layers.0.q.B": counting((4, 2)), "layers.0.up.B": counting((6, 2)), "layers.0.k.B": counting((2, 2))},
        GEOMETRY,
        before=Holding(keep_set=FULL, rank=2),
        after=after,
    )
    assert moved["layers.0.q.B"].first.tolist() == [[5, 6], [7, 8]]  # unit 1 holds query heads 2 and 3
    assert moved["layers.0.k.B"].first.tolist() == [[3, 4]]
    assert moved["layers.0.up.B"].second.tolist() == [[10, 20], [110, 120]]
    assert moved["layers.0.q.B"].step == 5  # nothing gained


def test_columns_of_a_follow_a_cut_and_the_rank_shrinks_to_a_prefix() -> None:
    moved = follow(
        {"layers.0.down.A": counting((2, 6)), "layers.0.q.A": counting((2, 4))},
        GEOMETRY,
        before=Holding(keep_set=FULL, rank=2),
        after=Holding(keep_set=keep((0, 1), (1, 2)), rank=1),
    )
    assert moved["layers.0.down.A"].first.tolist() == [[2, 3]]
    assert moved["layers.0.q.A"].first.tolist() == [[1, 2, 3, 4]]


def test_gained_components_start_at_zero_and_rewind_the_count() -> None:
    old = counting((1, 4), step=50)
    holding = {rank: Holding(keep_set=FULL, rank=rank) for rank in (1, 3)}
    moved = follow({"layers.0.q.A": old}, GEOMETRY, before=holding[1], after=holding[3])["layers.0.q.A"]
    assert moved.step == 1
    assert not moved.first[1:].any() and not moved.second[1:].any()
    for beta, now, then in ((BETAS[0], moved.first, old.first), (BETAS[1], moved.second, old.second)):
        np.testing.assert_allclose(now[:1] / (1 - beta), then / (1 - beta**50), rtol=1e-5)


def test_a_rewound_tensor_takes_no_overlong_step() -> None:
    grown = follow(
        {"layers.0.q.A": counting((1, 4), step=500)},
        GEOMETRY,
        before=Holding(keep_set=FULL, rank=1),
        after=Holding(keep_set=FULL, rank=2),
    )
    parameter = torch.nn.Parameter(torch.zeros(2, 4))
    optimizer = make_optimizer({"layers.0.q.A": parameter}, learning_rate=0.1, weight_decay=0.0)
    restore(optimizer, {"layers.0.q.A": parameter}, grown)
    parameter.grad = torch.ones(2, 4)
    optimizer.step()
    assert float(parameter.detach()[1].abs().max()) <= 0.1


def test_the_head_and_whole_axes_are_left_alone() -> None:
    head = Moment(first=np.ones(3, np.float32), second=np.ones(3, np.float32), step=7)
    narrow = Holding(keep_set=keep((0,), (0,)), rank=2)
    moved = follow(
        {"head.bias": head, "layers.0.q.A": counting((2, 4))},
        GEOMETRY,
        before=Holding(keep_set=FULL, rank=2),
        after=narrow,
    )
    assert moved["head.bias"] is head
    np.testing.assert_array_equal(moved["layers.0.q.A"].first, counting((2, 4)).first)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_cutting_twice_is_cutting_once(data: st.DataObject) -> None:
    outer = tuple(sorted(data.draw(st.sets(st.integers(0, 5), min_size=1))))
    inner = tuple(sorted(data.draw(st.sets(st.sampled_from(outer), min_size=1))))
    start, middle, end = (
        Holding(keep_set=keep((0, 1), channels), rank=rank)
        for channels, rank in ((range(6), 3), (outer, 2), (inner, 2))
    )
    saved = {"layers.0.up.B": counting((6, 3)), "layers.0.down.A": counting((3, 6))}
    once = follow(saved, GEOMETRY, before=start, after=end)
    twice = follow(follow(saved, GEOMETRY, before=start, after=middle), GEOMETRY, before=middle, after=end)
    for name in saved:
        np.testing.assert_array_equal(once[name].first, twice[name].first)


def trained(parameter: torch.nn.Parameter, optimizer: torch.optim.Optimizer, steps: int) -> torch.Tensor:
    torch.manual_seed(0)
    for _ in range(steps):
        parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    return parameter.detach().clone()


def test_stopping_and_restoring_changes_nothing() -> None:
    def fresh() -> tuple[dict[str, torch.nn.Parameter], torch.optim.AdamW]:
        parameters = {"head.weight": torch.nn.Parameter(torch.ones(3, 2))}
        return parameters, make_optimizer(parameters, learning_rate=0.1, weight_decay=0.01)

    parameters, optimizer = fresh()
    trained(parameters["head.weight"], optimizer, 3)
    saved = moments(optimizer, parameters)
    other, second = fresh()
    other["head.weight"].data.copy_(parameters["head.weight"])
    restore(second, other, saved)
    trained(parameters["head.weight"], optimizer, 2)
    trained(other["head.weight"], second, 2)
    assert saved["head.weight"].step == 3
    torch.testing.assert_close(parameters["head.weight"], other["head.weight"], rtol=0, atol=0)


def test_a_parameter_without_moments_starts_afresh() -> None:
    parameters = {"head.weight": torch.nn.Parameter(torch.ones(3))}
    optimizer = make_optimizer(parameters, learning_rate=0.1, weight_decay=0.0)
    restore(optimizer, parameters, {"head.gone": Moment(first=np.ones(1), second=np.ones(1), step=1)})
    assert moments(optimizer, parameters) == {}


def test_moments_of_another_shape_are_refused() -> None:
    parameters = {"head.weight": torch.nn.Parameter(torch.ones(3))}
    optimizer = make_optimizer(parameters, learning_rate=0.1, weight_decay=0.0)
    with pytest.raises(ModelError, match=r"moments\.follow"):
        restore(optimizer, parameters, {"head.weight": Moment(first=np.ones(2), second=np.ones(2), step=1)})
