"""What the coordinator itself keeps count of: uploads by whose they are, and what is left of them at its end."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fedcore.core.rounds.machine import resume
from fedcore.core.rounds.policy import RoundPolicy
from fedcore.protos.values import Role
from fedcore.server.members.sessions import Session
from fedcore.server.rounds.coordinator import Coordinator
from tests.server.members.fake_parent import DESCRIPTION
from tests.server.members.test_admission import EVALUATOR, JOIN
from tests.tiny_tier import assignment

POLICY = RoundPolicy(
    total_rounds=4, quorum=0.1, deadline_s=100.0, lease_s=1e6, min_devices=1, max_void_rounds=3, join_deadline_s=60.0
)
DEVICE = Session(JOIN)
EDGE = Session(replace(JOIN, name="north", role=Role.EDGE, profile=None))


@dataclass
class FakeEngine:
    """An engine whose round 3 is open, with an assignment of one device."""

    deleted: list[str] = field(default_factory=list)
    open: Any = None

    def __post_init__(self) -> None:
        wire = {JOIN.name: assignment(3, max_upload_bytes=700)}
        self.open = SimpleNamespace(round=3, wire_assignments=wire)

    @property
    def blobs(self) -> "FakeEngine":
        return self

    def delete(self, blob_id: str) -> None:
        self.deleted.append(blob_id)


def coordinator(engine: FakeEngine | None) -> Coordinator:
    nothing = cast(Any, None)
    made = Coordinator(
        description=DESCRIPTION,
        machine=resume(POLICY),
        make_engine=nothing,
        log=nothing,
        shards=nothing,
        rows_per_round=0,
        keep_result=nothing,
        clock=lambda: 0.0,
    )
    made.engine = cast(Any, engine)
    return made


async def test_uploads_of_devices_are_deleted_at_the_close_and_come_again_after_a_resume() -> None:
    """The evaluator's exports stay, and so does what was here before an upload of the same bytes began."""
    engine = FakeEngine()
    made = coordinator(engine)
    made.upload_started(DEVICE, "update", new=True)
    made.upload_started(DEVICE, "was here", new=False)
    made.upload_started(Session(EVALUATOR), "export", new=True)
    await made.close(None)
    assert engine.deleted == ["update"] and made.export_uploads == {"export"}


@pytest.mark.parametrize(("number", "limit"), [(2, None), (3, 700), (4, None)])
async def test_a_device_may_upload_what_answers_its_assignment_of_the_open_round(
    number: int, limit: int | None
) -> None:
    made = coordinator(FakeEngine())
    assert made.upload_limit(DEVICE, number) == limit
    assert made.upload_limit(Session(replace(JOIN, name="stranger")), number) is None
    await made.close(None)


async def test_nothing_is_uploaded_where_no_round_is_open_and_no_task() -> None:
    made = coordinator(None)
    assert [made.upload_limit(each, 3) for each in (DEVICE, EDGE, Session(EVALUATOR))] == [None] * 3
    await made.close(None)
