"""The policy's state as values: JSON and back without a loss, and what it refuses."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.errors import RunError
from fedcore.core.model.geometry import Counts
from fedcore.core.model.trained_part import EVERYTHING, Factors, TrainedPart
from fedcore.strategies.policy.cost import Demand
from fedcore.strategies.policy.device_table import DeviceTable
from fedcore.strategies.policy.speed import SelfMeasured, Speed, Speeds
from fedcore.strategies.policy.state import (
    PacedWork,
    PaceState,
    PlannedDevice,
    PlannedRound,
    PolicyState,
    part_from_json,
    part_json,
)

NAMES = st.text("abc-1", min_size=1, max_size=4)
FLOATS = st.floats(0, 1e9)
COUNTS = st.builds(Counts, st.integers(1, 64), st.integers(1, 4096))
SPEEDS = st.builds(Speed, FLOATS, FLOATS, FLOATS, FLOATS)
MAYBE = st.none() | st.floats(1e-9, 1e3)
PARTS = st.builds(TrainedPart, factors=st.sampled_from(Factors), first_layer=st.integers(0, 12))
OPAQUE = st.dictionaries(NAMES, st.lists(FLOATS, max_size=3), max_size=2)  # a bandit's or an order's


def tables(kind, rows):
    return st.dictionaries(NAMES, rows, max_size=4).map(
        lambda known: DeviceTable(kind, {device: list(row) for device, row in known.items()})
    )


WORKS = st.builds(
    PacedWork,
    demand=st.builds(Demand, FLOATS, st.integers(0, 10**9), FLOATS),
    self_measured=st.builds(SelfMeasured, MAYBE, MAYBE, MAYBE),
    declared=st.none() | SPEEDS,
    context=st.none() | st.tuples(FLOATS, FLOATS),
)
DEVICES = st.builds(
    PlannedDevice,
    counts=COUNTS,
    weight=st.integers(1, 2**24),
    bandit_key=NAMES,
    order_key=NAMES,
    model_s=FLOATS,
    part=PARTS,
    pace=st.none() | WORKS,
)
ROUNDS = st.builds(
    PlannedRound,
    round=st.integers(1, 999),
    budget_s=st.none() | FLOATS,
    devices=st.dictionaries(NAMES, DEVICES, max_size=4),
)
PACES = st.builds(
    PaceState,
    speeds=st.builds(
        Speeds,
        devices=tables(Speed, SPEEDS),
        classes=st.dictionaries(NAMES, SPEEDS, max_size=3),
        self_factors=st.tuples(FLOATS, FLOATS, FLOATS),
    ),
    multiplier=st.floats(0, 1),
)
STATES = st.builds(
    PolicyState,
    orders=st.dictionaries(NAMES, OPAQUE, max_size=3),
    bandits=st.dictionaries(NAMES, OPAQUE, max_size=3),
    committed=tables(Counts, COUNTS),
    memory_scale=st.dictionaries(NAMES, st.floats(0.5, 4.0), max_size=3),
    counted=st.none() | st.integers(0, 999),
    pace=st.none() | PACES,
    open=st.none() | ROUNDS,
)


@given(STATES)
def test_a_state_is_its_json(state):
    text = json.dumps(state.to_json())
    again = PolicyState.from_json(json.loads(text))
    assert again == state
    assert json.dumps(again.to_json()) == text


@given(PARTS)
def test_a_part_is_its_json_and_everything_says_nothing(part):
    assert part_from_json({"other": 1} | part_json(part)) == part
    assert (part_json(part) == {}) == (part == EVERYTHING)


def test_every_value_has_its_own_key():
    work = PacedWork(
        demand=Demand(1.5, 200, 100.0),
        self_measured=SelfMeasured(2.0, None, 1e-6),
        declared=Speed(1.0, 2.0, 3.0, 4.0),
        context=(0.5, 0.25),
    )
    planned = PlannedDevice(
        counts=Counts(8, 64),
        weight=3,
        bandit_key="nx",
        order_key="fleet",
        model_s=7.5,
        part=TrainedPart(factors=Factors.B, first_layer=2),
        pace=work,
    )
    state = PolicyState(
        orders={"fleet": {"rounds": 0}},
        committed=DeviceTable(Counts, {"n1": [8, 60]}),
        memory_scale={"nx": 1.25},
        counted=4,
        pace=PaceState(speeds=Speeds(classes={"nx": Speed(2.0)}), multiplier=0.3),
        open=PlannedRound(round=5, budget_s=9.0, devices={"n1": planned}),
    )
    assert state.to_json() == {
        "order": {"fleet": {"rounds": 0}},
        "bandits": {},
        "committed": {"n1": [8, 60]},
        "memory_scale": {"nx": 1.25},
        "counted": 4,
        "pace": {
            "speeds": {"devices": {}, "classes": {"nx": [2.0, 0.0, 0.0, 0.0]}, "trials": [1.0, 1.0, 1.0]},
            "multiplier": 0.3,
        },
        "open": {
            "round": 5,
            "budget_s": 9.0,
            "devices": {
                "n1": {
                    "counts": [8, 64],
                    "weight": 3,
                    "bandit_key": "nx",
                    "order": "fleet",
                    "model_s": 7.5,
                    "trains": {"factors": "b", "first_layer": 2},
                    "demand": [1.5, 200, 100.0],
                    "tried": [2.0, None, 1e-6],
                    "told": [1.0, 2.0, 3.0, 4.0],
                    "context": [0.5, 0.25],
                }
            },
        },
    }


def test_a_state_that_did_not_note_the_rounds_that_counted_counts_all():
    noted = PolicyState(orders={}, counted=2)
    assert noted.counted_before(7) == 2
    earlier = PolicyState.from_json({key: value for key, value in noted.to_json().items() if key != "counted"})
    assert earlier.counted_before(7) == 6
    assert "counted" not in earlier.to_json()


@pytest.mark.parametrize("damage", [{"pace": {}}, {"open": {"round": 1}}, {"open": []}])
def test_what_is_no_state_is_refused(damage):
    with pytest.raises(RunError, match="the strategy's state is not in this version's form"):
        PolicyState.from_json(PolicyState(orders={}).to_json() | damage)
    with pytest.raises(RunError, match="KeyError"):
        PolicyState.from_json({})


def test_a_table_reads_rows_when_asked_and_never_changes():
    rows = {"b": [8, 60], "a": [4, 20]}
    table = DeviceTable(Counts, rows)
    assert table["b"] == Counts(8, 60) and "a" in table and len(table) == 2
    assert (table.get("b"), table.get("c"), table.get("c", Counts(1, 1))) == (Counts(8, 60), None, Counts(1, 1))
    same = table.updated({"a": Counts(2, 10)})
    assert (table["a"], same["a"], list(same)) == (Counts(4, 20), Counts(2, 10), ["b", "a"])
    assert list(table.updated({"c": Counts(1, 1)})) == ["a", "b", "c"], "sorted once a device is new"
    assert rows == {"b": [8, 60], "a": [4, 20]}
    assert same.to_json() == {"b": [8, 60], "a": [2, 10]}
    assert table.to_json() is rows, "a turn does not copy the rows of a million devices"
    shown = "DeviceTable({'a': Counts(heads=1, channels=2, removed_layers=0)})"
    assert repr(DeviceTable(Counts, {"a": [1, 2]})) == shown
