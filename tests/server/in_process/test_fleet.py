"""Whole runs over real gRPC in one event loop: what one device does wrong, the coordinator and the others survive."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedcore.core.errors import BlobCorrupt, ProtocolError
from fedcore.protos.values import Verdict
from fedcore.server.run.inspect_run import replay_run, run_status
from tests.fake_device import Fault
from tests.server.conftest import TinyModel
from tests.tiny_run import Served, serving

Together = Callable[..., Any]


def statuses(served: Served, device: str) -> list[str]:
    """How each of a device's assignments ended, as the ledger has it."""
    ledger = served.ledger()
    try:
        return [row["status"] for rows in ledger.outcomes().values() for row in rows if row["device"] == device]
    finally:
        ledger.close()


async def test_two_devices_finish_a_run_and_every_file_of_it_is_written(
    tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    async with serving(tmp_path / "run", tiny.folder) as served:
        left, right = (tiny.device(served, name, tmp_path) for name in ("left", "right"))
        assert await together(left, right) == ["the run has finished"] * 2
        summary = await served.summary()
    assert [each["accepted"] for each in summary["rounds"]] == [2, 2]
    assert summary["run"]["status"] == "finished" and summary["totals"]["rounds"] == 2
    assert left.closed == [1, 2] and [each.verdict for each in left.verdicts] == [Verdict.ACCEPTED] * 2
    folder = served.folder
    assert not folder.endpoint.exists(), "nobody listens there any more"
    for path in (folder.summary, folder.rounds, folder.adapter / "adapter_model.safetensors"):
        assert path.is_file()
    assert run_status(folder)["summary"] == summary
    assert replay_run(folder) == 4
    assert [each["round"] for each in served.events("round_closed")] == [1, 2]


async def test_a_run_of_fedspine_prunes_scores_and_replays(tiny: TinyModel, tmp_path: Path, together: Together) -> None:
    overrides = [
        *("strategy.name=fedspine", "strategy.target_sparsity=0.5", "strategy.ranks=[1, 2]", "run.rounds=6"),
        *("strategy.warmup_rounds=1", "strategy.recovery_rounds=1", "training.codec=bf16+zstd"),
    ]
    async with serving(tmp_path / "run", tiny.folder, overrides) as served:
        devices = [tiny.device(served, f"d{number}", tmp_path) for number in range(3)]
        await together(*devices)
        summary = await served.summary()
    assert all(not device.errors for device in devices)
    counts = [len(each["results"]) for each in summary["rounds"]]
    assert replay_run(served.folder) == sum(counts) and len(counts) == 6
    assert summary["classes"]["tiny"]["realised_sparsity"] >= 0.5
    last = summary["rounds"][-1]["results"]
    assert all(row["status"] == "accepted" and row["sparsity"] >= 0.4 for row in last)


REPORTED = {
    Fault.CORRUPT_INLINE: "send them again",
    Fault.NAN: "NaN or infinity",
    Fault.HUGE: "more than the bound",
    Fault.WRONG_SHAPES: "expected (1, ",
    Fault.WRONG_NAMES: "missing tensors ['head.bias']",
    Fault.GARBAGE: "container",
    Fault.UNSENT: "is not here",
    Fault.OTHER_KEEP_SET: "keep-set",
    Fault.BAD_REPORT: "loss_after",
}


@pytest.mark.parametrize("fault", REPORTED, ids=lambda fault: fault.name)
async def test_an_update_that_does_not_fit_is_refused_with_the_reason_and_the_round_closes_with_the_others(
    fault: Fault, tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    async with serving(tmp_path / "run", tiny.folder, ["coordinator.min_devices=3"]) as served:
        bad = tiny.device(served, "bad", tmp_path, fault=fault)
        await together(bad, *(tiny.device(served, name, tmp_path) for name in ("good-0", "good-1")))
        summary = await served.summary()
    assert [each["accepted"] for each in summary["rounds"]] == [2, 2]
    assert statuses(served, "bad") == ["rejected", "rejected"]
    assert statuses(served, "good-0") == ["accepted", "accepted"]
    for event, verdict in zip(served.told("rejected", "bad"), bad.verdicts, strict=True):
        assert REPORTED[fault] in event["message"] and event["message"].count("\n") == 0
        assert verdict.verdict is Verdict.REJECTED and verdict.message == event["message"]
    assert [row["reward"] for rows in [summary["rounds"][0]["results"]] for row in rows if row["device"] == "bad"] == [
        0
    ]


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [(Fault.CORRUPT, BlobCorrupt, "send the blob again"), (Fault.OVERSIZED, ProtocolError, "expected at most")],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_a_refused_upload_is_told_to_the_device_and_reported(
    fault: Fault, kind: type[Exception], words: str, tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    overrides = ["coordinator.min_devices=3", "coordinator.round_deadline_s=0.4", "run.rounds=1"]
    async with serving(tmp_path / "run", tiny.folder, overrides) as served:
        bad = tiny.device(served, "bad", tmp_path, fault=fault)
        await together(bad, *(tiny.device(served, name, tmp_path) for name in ("good-0", "good-1")))
        summary = await served.summary()
    (error,) = bad.errors
    assert isinstance(error, kind) and words in str(error)
    assert [each["message"] for each in served.told("rejected", "bad")] == [str(error)]
    assert summary["rounds"][0]["accepted"] == 2
    assert not list((served.folder.blobs / "partial").glob("*"))


async def test_a_dropped_stream_comes_back_and_its_update_counts(
    tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    async with serving(tmp_path / "run", tiny.folder) as served:
        flaky = tiny.device(served, "flaky", tmp_path, fault=Fault.DROP)
        await together(flaky, tiny.device(served, "good", tmp_path))
        await served.summary()
    assert flaky.epoch == 2 and [assignment.round for assignment in flaky.assignments] == [1, 1, 2]
    assert statuses(served, "flaky") == ["accepted", "accepted"]
    assert len(served.told("left", "flaky")) >= 1 and len(served.told("joined", "flaky")) == 2


@pytest.mark.parametrize("fault", [Fault.VANISH, Fault.MUTE], ids=lambda fault: fault.name)
async def test_a_silent_device_loses_its_lease_and_never_blocks_a_round(
    fault: Fault, tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    overrides = ["coordinator.min_devices=2", "coordinator.lease_s=0.5"]
    async with serving(tmp_path / "run", tiny.folder, overrides) as served:
        gone = tiny.device(served, "gone", tmp_path, fault=fault)
        await together(gone, tiny.device(served, "good", tmp_path))
        summary = await served.summary()
    assert statuses(served, "gone") == ["lost"], "after its lease it is not in the roster of round 2"
    assert [each["accepted"] for each in summary["rounds"]] == [1, 1]
    assert summary["rounds"][0]["duration_s"] < 5.0, "the lease decides, not the deadline of 10 s"
    assert summary["rounds"][0]["results"][0]["reward"] is None, "a lost device says nothing about its arm"


async def test_a_slow_device_misses_the_deadline_and_its_update_is_late(
    tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    async with serving(tmp_path / "run", tiny.folder, ["coordinator.round_deadline_s=0.4"]) as served:

        async def until_closed(assignment: Any) -> None:
            await served.until("round_closed", assignment.round)

        slow = tiny.device(served, "slow", tmp_path, hold=until_closed)
        await together(slow, tiny.device(served, "good", tmp_path))
        await served.summary()
    assert statuses(served, "slow") == ["missed_deadline", "missed_deadline"]
    assert statuses(served, "good") == ["accepted", "accepted"]
    assert slow.verdicts[0].verdict is Verdict.LATE and slow.verdicts[0].message == "round 1 had closed"
    assert served.told("late", "slow")[0]["round"] == 1


async def test_an_upload_after_the_deadline_is_refused_as_late(
    tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    async with serving(tmp_path / "run", tiny.folder, ["coordinator.round_deadline_s=0.4"]) as served:

        async def until_closed(assignment: Any) -> None:
            await served.until("pushed", 3 if assignment.round == 1 else 0)  # until the next round is open

        slow = tiny.device(served, "slow", tmp_path, hold=until_closed, inline=False)
        await together(slow, tiny.device(served, "good", tmp_path))
        await served.summary()
    assert "no open assignment of round 1; drop the update" in str(slow.errors[0])


async def test_a_duplicate_submission_counts_once_and_is_acknowledged_twice(
    tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    async with serving(tmp_path / "run", tiny.folder, ["run.rounds=1"]) as served:
        twice = tiny.device(served, "twice", tmp_path, fault=Fault.DUPLICATE)
        await together(twice, tiny.device(served, "once", tmp_path))
        summary = await served.summary()
    assert [each.verdict for each in twice.verdicts][:1] == [Verdict.ACCEPTED]
    assert {each.verdict for each in twice.verdicts} == {Verdict.ACCEPTED}
    assert len(served.told("accepted", "twice")) == 1
    assert summary["rounds"][0]["weight"] == sum(row["weight"] for row in summary["rounds"][0]["results"])


async def test_update_blobs_go_when_their_round_closes(tiny: TinyModel, tmp_path: Path, together: Together) -> None:
    overrides = ["coordinator.min_devices=2", "run.rounds=3"]
    async with serving(tmp_path / "run", tiny.folder, overrides) as served:
        bad = tiny.device(served, "bad", tmp_path, fault=Fault.NAN, inline=False)
        await together(bad, tiny.device(served, "good", tmp_path, inline=False))
        await served.summary()
    left = list((served.folder.blobs / "sha256").glob("??/*"))
    # The last two globals of a rank-1 adapter, one block and one head each, and one keep-set.
    assert len(left) == 5
    assert not list((served.folder.blobs / "partial").glob("*"))
