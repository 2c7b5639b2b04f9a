"""What an edge's worker does: it packs what it was asked for, leaf by leaf, and leaves nothing of a round behind."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedcore.core.aggregation.table import make_aggregator
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.update import Update
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.rounds.tier.commands import Send
from fedcore.core.rounds.tier.state import PartialId
from fedcore.protos.tier_values import TierSpec
from fedcore.protos.values import AssignmentFailure
from fedcore.server.aggregate.adapter_blobs import store_adapter
from fedcore.server.aggregate.partials import verify_partial
from fedcore.server.aggregate.round_sum import RoundSum
from fedcore.server.edge.engine import EdgeEngine
from fedcore.storage.blobs.store import BlobStore
from tests.tiny_run import spec_of
from tests.tiny_tier import GEOMETRY, answer, assignment, engine_of, failure, root_sum, share, submitted, sum_of

WORKS = {name: assignment(score=True) for name in ("ada", "bob", "cyd")}
TIMES = dict.fromkeys(WORKS, 0.5)


def order(*devices: str, **changes: Any) -> Send:
    values: dict[str, Any] = {"number": 1, "round": 1, "devices": devices, "failed": (), "parts": ()}
    return Send(**(values | changes))


def holding(place: Path, *devices: str) -> EdgeEngine:
    engine = engine_of(place, WORKS)
    for device in devices:
        sum_of(engine).verify(device, answer(device, WORKS[device]))
        sum_of(engine).fold(device)
    return engine


def test_what_is_packed_passes_the_root(tmp_path: Path) -> None:
    submission = holding(tmp_path / "edge", "ada", "bob").pack(
        order("ada", "bob", failed=("cyd",)), TIMES, {"cyd": AssignmentFailure(round=1, message="?")}
    )
    assert [leaf.device for leaf in submission.leaves] == ["ada", "bob", "cyd"]
    assert submission.counted == ("ada", "bob") and submission.leaves[2] == failure("cyd", "?")
    assert {leaf.time_s for leaf in submission.leaves[:2]} == {0.5}
    part = verify_partial("north", submission, root_sum(tmp_path / "root", WORKS).terms, ())
    assert set(part.scores) == set(WORKS) and part.weight == 8


def test_an_answer_here_outweighs_a_failure_below(tmp_path: Path) -> None:
    """Who failed below a child and moved here answered here."""
    below = submitted(tmp_path / "deep", WORKS, failed=["ada"])
    engine = holding(tmp_path / "edge", "ada")
    sum_of(engine).verify_partial("deep", below)
    sum_of(engine).merge_partial(PartialId(child="deep", number=1))
    submission = engine.pack(order("ada", "bob", "cyd", parts=(PartialId(child="deep", number=1),)), TIMES, {})
    assert submission.counted == ("ada", "bob", "cyd") and len(submission.leaves) == 3
    assert verify_partial("north", submission, root_sum(tmp_path / "root", WORKS).terms, ()).weight == 12


def test_importances_of_a_part_are_those_that_came_in_it(tmp_path: Path) -> None:
    """Also where the device has sent a copy here meanwhile."""
    below = submitted(tmp_path / "deep", {"bob": WORKS["bob"]})
    engine = engine_of(tmp_path / "edge", WORKS)
    sum_of(engine).verify_partial("deep", below)
    sum_of(engine).merge_partial(PartialId(child="deep", number=1))
    other = answer("cyd", WORKS["bob"])
    sum_of(engine).verify("bob", replace(answer("bob", WORKS["bob"]), scores=other.scores))
    submission = engine.pack(order("bob", parts=(PartialId(child="deep", number=1),)), TIMES, {})
    assert submission.scores is not None and below.scores is not None
    assert submission.scores.inline == below.scores.inline


def test_failures_alone_carry_no_partial(tmp_path: Path) -> None:
    submission = engine_of(tmp_path, WORKS).pack(
        order(failed=("ada",)), {}, {"ada": AssignmentFailure(round=1, message="out of memory")}
    )
    assert submission.partial is None and submission.scores is None
    assert submission.leaves == (failure("ada"),)


def test_what_was_passed_on_is_not_in_the_next_submission(tmp_path: Path) -> None:
    engine = holding(tmp_path / "edge", "ada")
    engine.pack(order("ada"), TIMES, {})
    sum_of(engine).verify("bob", answer("bob", WORKS["bob"]))
    sum_of(engine).fold("bob")
    second = engine.pack(order("bob", number=2), TIMES, {})
    assert second.counted == ("bob",)
    assert verify_partial("north", second, root_sum(tmp_path / "root", WORKS).terms, ()).weight == 4


def test_a_round_leaves_nothing_behind(tmp_path: Path) -> None:
    engine = holding(tmp_path / "edge", "ada")
    update = answer("bob", WORKS["bob"])
    blob = engine.blobs.put_bytes(update.update.inline)
    sum_of(engine).verify("bob", replace(update, update=replace(update.update, inline=b"")))
    engine.forget(2)
    assert engine.sum is not None and engine.blobs.has(blob), "round 1 is still open"
    engine.forget(1)
    assert (engine.sum, engine.wire_assignments, engine.blobs.names()) == (None, {}, set())
    deep = PartialId(child="deep", number=1)
    engine.with_sum(RoundSum.fold, "ada")  # came too late: no error, nothing to do
    engine.with_sum(RoundSum.merge_partial, deep)
    engine.with_sum(RoundSum.verify, "ada", answer("ada", WORKS["ada"]))
    engine.with_sum(RoundSum.drop_partial, deep)
    assert engine.sum is None and engine.devices_in(deep) == set()


def test_a_later_share_ends_the_round_before(tmp_path: Path) -> None:
    engine = holding(tmp_path, "ada")
    later = {"bob": assignment(2)}
    engine.add_share(share(later), later)
    engine.forget(1)  # said when the new round is here already
    assert sum_of(engine).terms.round == 2 and list(engine.wire_assignments) == ["bob"] and sum_of(engine).updates == {}
    with pytest.raises(RuntimeError, match="round 1 is not open at this edge"):
        engine.pack(order("ada"), TIMES, {})


def test_a_second_share_of_a_round_adds_its_devices(tmp_path: Path) -> None:
    engine = holding(tmp_path, "ada")
    more = {"dan": assignment()}
    engine.add_share(share(more), more)
    assert set(sum_of(engine).terms.assignments) == {*WORKS, "dan"} and "ada" in sum_of(engine).updates


def test_a_second_share_may_bring_ranks_that_the_first_had_not(tmp_path: Path) -> None:
    """A leaf of rank 2 must not meet an adapter of rank 1; what was summed up before stays."""
    spec = spec_of(GEOMETRY, 2)
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in spec.shapes().items()}
    engine = EdgeEngine(blobs=BlobStore(tmp_path / "edge"))
    stored = store_adapter(engine.blobs, spec, tensors, 0, ranks=(1, 2))
    tier = TierSpec(aggregator="delta-stack", adapter=spec)
    given = {"ada": (1, stored.rank_blocks[:1]), "bob": (2, stored.rank_blocks)}
    flat = make_aggregator("delta-stack").start(spec, tensors)
    for device, (rank, blocks) in given.items():
        works = {device: assignment(arm=Arm(sparsity=0.0, rank=rank), rank_blocks=blocks, head=stored.head)}
        engine.add_share(replace(share(works), spec=tier), works)
        sum_of(engine).verify(device, answer(device, works[device]))
        update = sum_of(engine).updates[device].update
        assert update is not None
        flat = make_aggregator("delta-stack").fold(flat, update)
        sum_of(engine).fold(device)
    known = sum_of(engine).terms.adapter
    assert known is not None
    for name, value in tensors.items():
        np.testing.assert_array_equal(known[name], value)
    assert sum_of(engine).partial.adapter is known
    aggregator = make_aggregator("delta-stack")
    assert b"".join(aggregator.pack(sum_of(engine).partial)) == b"".join(aggregator.pack(flat))
    engine.forget(1)
    works = {"ada": assignment(2, rank_blocks=stored.rank_blocks[:1], head=stored.head)}
    engine.add_share(replace(share(works), spec=tier), works)
    assert sum_of(engine).terms.adapter is not None, "the next round begins anew"


def test_what_turns_out_bad_once_more_ranks_are_known_is_left_to_the_root(tmp_path: Path) -> None:
    """It came in a part while nobody here could judge it; a share that brings its ranks must not end the edge."""
    spec = spec_of(GEOMETRY, 2)
    tensors = {name: np.ones(shape, dtype=np.float32) for name, shape in spec.shapes().items()}
    engine = EdgeEngine(blobs=BlobStore(tmp_path / "edge"))
    stored = store_adapter(engine.blobs, spec, tensors, 0, ranks=(1, 2))
    tier = TierSpec(aggregator="delta-stack", adapter=spec)
    narrow = {"ada": assignment(rank_blocks=stored.rank_blocks[:1], head=stored.head)}
    engine.add_share(replace(share(narrow), spec=tier), narrow)
    round_sum, aggregator = sum_of(engine), make_aggregator("delta-stack")
    wild = Update(
        device="eve",
        round=1,
        weight=1,
        rank=2,
        keep_set=KeepSet.full(GEOMETRY),
        tensors={name: np.full(shape, 60.0, dtype=np.float32) for name, shape in spec.shapes().items()},
    )
    round_sum.partial = aggregator.merge(
        aggregator.start(spec, round_sum.terms.adapter), aggregator.fold(aggregator.start(spec), wild)
    )
    wide = {"bob": assignment(arm=Arm(sparsity=0.0, rank=2), rank_blocks=stored.rank_blocks, head=stored.head)}
    engine.add_share(replace(share(wide), spec=tier), wide)
    assert "bob" in round_sum.terms.assignments and ("eve", 1) in round_sum.partial.members.keys
    with pytest.raises(UpdateRejected, match="eve for round 1: its product"):
        aggregator.unpack(b"".join(aggregator.pack(round_sum.partial)), spec, tensors)


def test_a_large_partial_lies_in_the_store_until_its_round_is_behind_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedcore.server.edge.engine.INLINE_BYTES", 100)
    engine = holding(tmp_path, "ada")
    submission = engine.pack(order("ada"), TIMES, {})
    assert submission.partial is not None and not submission.partial.inline
    assert engine.blobs.size(submission.partial.id) == submission.partial.size
    engine.forget(1)
    assert engine.blobs.names() == set()


def test_what_a_device_sent_stays_though_the_same_bytes_go_up(tmp_path: Path) -> None:
    """One device's importances are all importances; they are needed again where the submission is refused."""
    engine = engine_of(tmp_path, WORKS)
    update = answer("ada", WORKS["ada"])
    assert update.scores is not None
    engine.blobs.put_bytes(update.scores.inline)
    sum_of(engine).verify("ada", replace(update, scores=replace(update.scores, inline=b"")))
    for number in (1, 2):
        sum_of(engine).fold("ada")
        submission = engine.pack(order("ada", number=number), TIMES, {})
        assert submission.scores is not None and submission.scores.inline == update.scores.inline
