"""A plan as it travels: blobs that equal devices share, the basis of the coordinates, and the fleet's label counts."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.aggregation.table import AGGREGATORS, make_aggregator
from fedcore.core.contract.assignment import Arm, Assignment
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import Aggregator
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.keep_set import KeepSet
from fedcore.server.aggregate.adapter_blobs import store_adapter
from fedcore.server.aggregate.dispatch import Dispatcher, LabelCensus
from fedcore.server.aggregate.uploads import upload_bound
from fedcore.storage.blobs.store import BlobStore
from tests.tiny_run import spec_of
from tests.tiny_tier import GEOMETRY, KEPT, TRAINING

SPEC = spec_of(GEOMETRY, 2)
CUT = KeepSet(heads=((0,),) * GEOMETRY.layers, channels=((0, 1),) * GEOMETRY.layers)
REDUCING = ["factor-mean", "layer-mean"]


@dataclass(frozen=True)
class FakeStrategy:
    """As much of a strategy as turning its plan into work looks at."""

    aggregator: Aggregator[Any]
    spec: AdapterSpec = SPEC


def assignment(device: str, *, rank: int = 1, keep_set: KeepSet = KEPT, **changes: Any) -> Assignment:
    made = Assignment(
        round=3,
        device=device,
        arm=Arm(sparsity=0.0, rank=rank),
        keep_set=keep_set,
        local_steps=5,
        weight=4,
        seed=7,
        deadline_s=10.0,
        score=False,
        training=TRAINING,
    )
    return replace(made, **changes)


def dispatcher(place: Path, aggregator: str = "factor-mean", *, value: float = 1.0) -> Dispatcher:
    """Return a dispatcher that hands out an adapter of equal values."""
    blobs = BlobStore(place)
    tensors = {name: np.full(shape, value, dtype=np.float32) for name, shape in SPEC.shapes().items()}
    strategy: Any = FakeStrategy(make_aggregator(aggregator))
    adapter = store_adapter(blobs, SPEC, tensors, 2, ranks=(1, 2))
    return Dispatcher(strategy=strategy, blobs=blobs, adapter=adapter, counted_rounds={"a": 2}, label_counts=(3, 4))


def test_every_assignment_becomes_work_with_its_own_decisions(tmp_path: Path) -> None:
    works = dispatcher(tmp_path).dispatch([assignment("b", seed=9), assignment("a", rank=2, weight=8, score=True)])
    assert list(works) == ["b", "a"] and {work.round for work in works.values()} == {3}
    assert (works["b"].seed, works["b"].weight, works["b"].score, works["b"].counted_round) == (9, 4, False, 0)
    assert (works["a"].seed, works["a"].weight, works["a"].score, works["a"].counted_round) == (7, 8, True, 2)
    assert [ref.name for ref in works["b"].rank_blocks] == ["0-1"]
    assert [ref.name for ref in works["a"].rank_blocks] == ["0-1", "1-2"]
    assert {work.label_counts for work in works.values()} == {(3, 4)}
    assert works["a"].max_upload_bytes == upload_bound(assignment("a", rank=2, score=True), SPEC)


def test_devices_of_equal_keep_set_rank_and_codec_share_what_they_fetch(tmp_path: Path) -> None:
    made = dispatcher(tmp_path)
    works = made.dispatch([assignment("a"), assignment("b"), assignment("c", keep_set=CUT)])
    assert works["a"].keep_set is works["b"].keep_set and works["a"].rank_blocks is works["b"].rank_blocks
    assert works["c"].keep_set.id == CUT.blob_id != works["a"].keep_set.id == KEPT.blob_id
    assert works["c"].max_upload_bytes < works["a"].max_upload_bytes


@pytest.mark.parametrize("name", AGGREGATORS)
def test_only_a_reducing_aggregator_keeps_the_basis_of_the_coordinates(name: str, tmp_path: Path) -> None:
    """A device goes on with its optimiser's moments while the basis is called the same."""
    first, second = (
        dispatcher(tmp_path / str(value), name, value=value).dispatch([assignment("a"), assignment("b", rank=2)])
        for value in (1.0, 2.0)
    )
    for works in (first, second):
        expected = "persistent" if name in REDUCING else works["a"].rank_blocks[0].id
        assert {work.basis for work in works.values()} == {expected}
    assert (first["a"].basis == second["a"].basis) == (name in REDUCING)


LABELS = ("a", "b", "c")
COUNTS = st.dictionaries(st.sampled_from(LABELS), st.integers(0, 9)).map(lambda held: tuple(sorted(held.items())))


@given(st.lists(st.dictionaries(st.sampled_from(["x", "y", "z"]), COUNTS), max_size=8))
def test_the_census_counts_every_device_that_is_there(fleets: list[dict[str, tuple[tuple[str, int], ...]]]) -> None:
    """Kept up to date, the counts are those of counting every device again."""
    census = LabelCensus()
    profiles: dict[str, DeviceProfile] = {}
    for fleet in fleets:
        profiles = {
            name: profiles[name]
            if name in profiles and profiles[name].label_counts == held
            else DeviceProfile(name=name, device_class="k", num_examples=1, label_counts=held)
            for name, held in fleet.items()
        }
        plain: Counter[str] = Counter()
        for held in fleet.values():
            plain.update(dict(held))
        assert census.rows(profiles, LABELS) == tuple(plain[label] for label in LABELS)
