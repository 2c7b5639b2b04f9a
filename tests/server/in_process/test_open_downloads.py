"""What an open round hands out is here, whatever earlier rounds handed out, and small enough for a message."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fedcore.core.config.tables import ClassConfig
from fedcore.core.contract.outcome import Status
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.model.adapter import restrict
from fedcore.core.model.rings import MOST
from fedcore.core.rounds.commands import Turn
from fedcore.core.rounds.result import MemberResult, RoundResult
from fedcore.protos.values import WireAssignment
from fedcore.protos.wire import INLINE_BYTES
from fedcore.server.aggregate.adapter_blobs import MAX_INLINE_BYTES, blocks_below, store_adapter
from fedcore.server.run.run_folder import RunFolder
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.download import read_received
from tests.server.aggregate.test_engine import Played, open_engine
from tests.server.conftest import TinyModel
from tests.tiny_run import drawn_adapter, spec_of

CLASSES = tuple(
    ClassConfig(name=name, count=2, target_sparsity=target) for name, target in (("soft", 0.3), ("hard", 0.6))
)
FEDSPINE = ["strategy.name=fedspine", "strategy.warmup_rounds=1", "strategy.recovery_rounds=57", "run.rounds=60"]
FEDSPINE += ["strategy.pace=off", "training.handout=kept"]
MANY = ["strategy.target_sparsity=0.6", "strategy.bandit=random", "strategy.ranks=[2, 8]"]


def rounds(
    played: Played, profiles: dict[str, DeviceProfile], count: int, *, void: bool
) -> Iterator[dict[str, WireAssignment]]:
    """Play rounds, of three that follow each other two void where asked; yields what every round hands out."""
    roster, engine = tuple(profiles), played.engine
    assignments = dict(engine.turn(Turn(closed=None, next_round=1, roster=roster), profiles, 0).assignments)
    for number in range(1, count + 1):
        yield assignments
        lost = void and number % 3 != 2
        if not lost:
            played.count(assignments)
        status, accepted_at_s = (Status.LOST, None) if lost else (Status.ACCEPTED, 2.0)
        members = tuple(
            MemberResult(device=device, status=status, pushed_at_s=1.0, accepted_at_s=accepted_at_s)
            for device in assignments
        )
        closed = RoundResult(round=number, void=lost, members=members, opened_at_s=1.0, closed_at_s=3.0)
        assignments = dict(
            engine.turn(Turn(closed=closed, next_round=number + 1, roster=roster), profiles, int(lost)).assignments
        )


@pytest.mark.parametrize(
    ("changes", "void"),
    [
        (["strategy.bandit=fixed", "strategy.ranks=[16]"], True),  # nothing moves between two classes' rounds
        (["strategy.bandit=random", "strategy.ranks=[16, 32]"], False),  # ranks that nobody trained for a while
    ],
)
def test_what_an_earlier_round_handed_out_stays_while_it_is_handed_out_again(
    changes: list[str], void: bool, wide: TinyModel, tmp_path: Path
) -> None:
    played = open_engine(RunFolder(tmp_path), wide, [*FEDSPINE, "strategy.cohort=1", *changes], classes=CLASSES)
    profiles = {
        name: DeviceProfile(name=name, device_class=device_class, num_examples=3)
        for name, device_class in (("a", "soft"), ("b", "hard"), ("c", "hard"), ("d", "soft"))
    }
    parted = 0
    for assignments in rounds(played, profiles, 30, void=void):
        for assignment in assignments.values():
            parted += sum(not ref.inline for ref in assignment.rank_blocks if assignment.rings)
            read_received(assignment, played.engine.blobs)
    assert parted, "blocks in rings that did not travel inside their message"
    played.engine.log.close()
    played.engine.ledger.close()


def test_many_keep_sets_share_few_rings(wide: TinyModel, tmp_path: Path) -> None:
    played = open_engine(RunFolder(tmp_path), wide, [*FEDSPINE, *MANY])
    spec, blobs = played.engine.strategy.spec, played.engine.blobs
    names = [f"d{number:02}" for number in range(40)]
    profiles = {name: DeviceProfile(name=name, device_class="x", num_examples=3) for name in names}
    between = 0
    for assignments in rounds(played, profiles, 4, void=False):
        handed, open_round = played.engine.model.as_downloaded(), played.engine.open
        assert (
            open_round is not None
            and len({ref.id for assignment in assignments.values() for ref in assignment.rings}) <= MOST
        )
        for device, assignment in assignments.items():
            kept = open_round.assignments[device].keep_set
            received = read_received(assignment, blobs)
            assert received.keep_set == kept
            between += assignment.inside is not None
            held = restrict(spec, received.tensors, rank=assignment.arm.rank, keep_set=kept, within=received.within)
            for name, value in restrict(spec, handed, rank=assignment.arm.rank, keep_set=kept).items():
                np.testing.assert_array_equal(held[name], value)
    assert between > 0
    played.engine.log.close()
    played.engine.ledger.close()


def test_blocks_inside_an_assignment_are_bounded_together(tiny: TinyModel, tmp_path: Path) -> None:
    ranks = tuple(range(1, 3000, 100))
    spec, blobs = spec_of(tiny.geometry, ranks[-1]), BlobStore(tmp_path)
    adapter = store_adapter(blobs, spec, drawn_adapter(spec), 0, ranks=ranks)
    inside = [len(ref.inline) for ref in adapter.rank_blocks]
    assert max(inside) <= INLINE_BYTES and sum(inside) <= MAX_INLINE_BYTES < sum(
        ref.size for ref in adapter.rank_blocks
    )
    assert all(ref.inline or blobs.has(ref.id) for ref in blocks_below(adapter, ranks[-1]))


def test_what_an_earlier_process_left_goes_with_the_first_round(tiny: TinyModel, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    left = BlobStore(folder.blobs).put_bytes(b"an update of a round that is planned again")
    played = open_engine(folder, tiny, ["run.rounds=5"])
    assignments = played.begin()
    assert played.engine.blobs.has(left), "a device may go on with it"
    played.count(assignments)
    played.close(1)
    assert not played.engine.blobs.has(left)
    played.engine.log.close()
    played.engine.ledger.close()
