"""One round as an edge sees it, without streams: work, a share of it, what devices answer, submissions of edges."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedcore.core.codec.chain import encode
from fedcore.core.contract.assignment import Arm, TrainingSpec
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.rounds.tier.commands import Send
from fedcore.core.rounds.tier.state import PartialId
from fedcore.protos.tier_values import LeafOutcome, PartialSubmission, RoundShare, TierSpec
from fedcore.protos.values import BlobRef, UpdateSubmission, WireAssignment
from fedcore.server.aggregate.round_sum import RoundSum
from fedcore.server.edge.engine import EdgeEngine
from fedcore.storage.blobs.name import blob_name
from fedcore.storage.blobs.store import BlobStore
from tests.tiny_run import MODEL, device_report, score_vectors, small_update, spec_of

GEOMETRY = geometry_from_config(MODEL)
KEPT = KeepSet.full(GEOMETRY)
SPEC = spec_of(GEOMETRY, 1)
TIER = TierSpec(aggregator="factor-mean", adapter=SPEC)
TRAINING = TrainingSpec(
    batch_size=1,
    learning_rate=1e-3,
    weight_decay=0.0,
    lora_scale=2.0,
    importance="taylor",
    keep_optimizer=False,
    codec="identity",
)


def small(data: bytes, name: str = "") -> BlobRef:
    """Return a blob that travels inside its message."""
    return BlobRef(id=blob_name(data), size=len(data), name=name, inline=data)


def assignment(number: int = 1, **changes: Any) -> WireAssignment:
    """Return an assignment of the dense tiny model at rank 1."""
    values: dict[str, Any] = {
        "round": number,
        "arm": Arm(sparsity=0.0, rank=1),
        "keep_set": small(KEPT.to_bytes(), "keep-set"),
        "rank_blocks": (small(b"block"),),
        "head": small(b"head"),
        "local_steps": 1,
        "weight": 4,
        "seed": 1,
        "deadline_s": 10.0,
        "score": False,
        "training": TRAINING,
        "max_upload_bytes": 1 << 20,
        "basis": "",
    }
    return WireAssignment(**(values | changes))


def share(works: dict[str, WireAssignment]) -> RoundShare:
    """Return the share that goes with `works`."""
    return RoundShare(
        round=next(iter(works.values())).round, deadline_s=9.0, spec=TIER, assignments=tuple(sorted(works.items()))
    )


def engine_of(place: Path, works: dict[str, WireAssignment]) -> EdgeEngine:
    """Return an edge's engine that has taken the share in."""
    engine = EdgeEngine(blobs=BlobStore(place))
    engine.add_share(share(works), works)
    return engine


def sum_of(engine: EdgeEngine) -> RoundSum:
    """Return the open round's sum."""
    if engine.sum is None:
        raise ValueError("no round is open")
    return engine.sum


def root_sum(place: Path, works: dict[str, WireAssignment]) -> RoundSum:
    """Return a sum as the coordinator has one: it knows every device of the round."""
    round_sum = sum_of(engine_of(place, works))
    round_sum.terms = replace(round_sum.terms, unassigned=False)
    return round_sum


def answer(device: str, given: WireAssignment, **changes: Any) -> UpdateSubmission:
    """Return the update of a device, inside its message."""
    scores = small(encode(score_vectors(KEPT, device), "identity")) if given.score else None
    submission = UpdateSubmission(
        round=given.round,
        update=small(encode(small_update(GEOMETRY, given, KEPT, device), "identity")),
        scores=scores,
        keep_set=given.keep_set.id,
        report=device_report(),
    )
    return replace(submission, **changes)


def submitted(
    place: Path,
    works: dict[str, WireAssignment],
    *,
    number: int = 1,
    failed: Sequence[str] = (),
    parts: Sequence[tuple[str, PartialSubmission]] = (),
) -> PartialSubmission:
    """Return what an edge passes up for these devices: who is not in `failed` answered."""
    engine = engine_of(place, works)
    devices = tuple(sorted(set(works) - set(failed)))
    for device in devices:
        sum_of(engine).verify(device, answer(device, works[device]))
        sum_of(engine).fold(device)
    below: list[PartialId] = []
    for child, each in parts:
        sum_of(engine).verify_partial(child, each)
        below.append(PartialId(child=child, number=each.number))
        sum_of(engine).merge_partial(below[-1])
        devices = tuple(sorted({*devices, *each.counted}))
    round_index = next(iter(works.values())).round
    order = Send(number=number, round=round_index, devices=devices, failed=tuple(sorted(failed)), parts=tuple(below))
    return engine.pack(order, dict.fromkeys(devices, 0.5), {})


def with_leaf(submission: PartialSubmission, device: str, **changes: Any) -> PartialSubmission:
    """Return `submission` with one leaf changed."""
    leaves = (replace(leaf, **changes) if leaf.device == device else leaf for leaf in submission.leaves)
    return replace(submission, leaves=tuple(leaves))


def failure(device: str, message: str = "out of memory") -> LeafOutcome:
    """Return the outcome of a device that did not count."""
    return LeafOutcome(device=device, counted=False, time_s=0.0, message=message)
