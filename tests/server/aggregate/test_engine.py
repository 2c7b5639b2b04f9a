"""What a round computes, with real strategies on a tiny model: verified, folded, closed, planned, committed, tidied."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedcore.client.training.base_shift_cache import BaseShiftCache
from fedcore.core.codec.cast import from_bf16, to_bf16
from fedcore.core.codec.chain import encode
from fedcore.core.codec.delta import apply_delta
from fedcore.core.codec.negotiation import PARTS
from fedcore.core.config.tables import ClassConfig
from fedcore.core.contract.outcome import Status
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.errors import RunError, UpdateRejected
from fedcore.core.model.adapter import restrict
from fedcore.core.model.base_shift import shift_shapes
from fedcore.core.rounds.commands import Turn
from fedcore.core.rounds.result import MemberResult, RoundResult
from fedcore.protos.values import BlobRef, UpdateSubmission, WireAssignment
from fedcore.server.aggregate.assemble import make_engine
from fedcore.server.aggregate.engine import Engine
from fedcore.server.aggregate.round_sum import RoundSum
from fedcore.server.run.journal import read_events
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from fedcore.server.run.summary import build_summary
from fedcore.storage.blobs.name import blob_name
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.download import read_handout, read_keep_set, read_received
from tests.server.conftest import TinyModel
from tests.tiny_run import LABELS, device_report, score_vectors, small_update, tiny_config

DEVICES = ("a", "b")
PROFILES = {name: DeviceProfile(name=name, device_class="tiny", num_examples=3) for name in DEVICES}
PRUNING = ["strategy.name=fedspine", "strategy.target_sparsity=0.5", "strategy.ranks=[1, 2]", "run.rounds=5"]
PRUNING += ["strategy.warmup_rounds=1", "strategy.recovery_rounds=1", "strategy.bandit=fixed"]


@dataclass
class Played:
    """An engine, and rounds played by hand."""

    engine: Engine
    model: TinyModel
    folder: RunFolder

    @property
    def sum(self) -> RoundSum:
        """The open round's."""
        assert self.engine.open is not None
        return self.engine.open.sum

    def begin(self, number: int = 1, devices: tuple[str, ...] = DEVICES) -> Mapping[str, WireAssignment]:
        return self.engine.turn(Turn(closed=None, next_round=number, roster=devices), PROFILES, 0).assignments

    def submission(self, device: str, work: WireAssignment, **changes: Any) -> UpdateSubmission:
        keep_set = read_keep_set(work, self.engine.blobs)
        data = encode(small_update(self.model.geometry, work, keep_set, device), work.training.codec)
        scores = encode(score_vectors(keep_set, device), "identity") if work.score else None
        submission = UpdateSubmission(
            round=work.round,
            update=self.stored(data),
            scores=None if scores is None else self.stored(scores),
            keep_set=work.keep_set.id,
            report=device_report(),
        )
        return replace(submission, **changes)

    def stored(self, data: bytes) -> BlobRef:
        return BlobRef(id=self.engine.blobs.put_bytes(data), size=len(data))

    def count(self, works: Mapping[str, WireAssignment]) -> None:
        for device, work in works.items():
            self.sum.verify(device, self.submission(device, work))
            self.sum.fold(device)

    def close(
        self,
        number: int,
        *,
        void: bool = False,
        accepted: tuple[str, ...] = DEVICES,
        last: bool = False,
        pushed_at_s: float = 1.0,
    ) -> Any:
        members = tuple(
            MemberResult(
                device=device,
                status=Status.ACCEPTED if device in accepted else Status.LOST,
                pushed_at_s=pushed_at_s,
                accepted_at_s=2.0 if device in accepted else None,
            )
            for device in DEVICES
        )
        closed = RoundResult(round=number, void=void, members=members, opened_at_s=1.0, closed_at_s=3.0)
        following = None if last else number + 1
        return self.engine.turn(
            Turn(closed=closed, next_round=following, roster=DEVICES), PROFILES, int(void)
        ).assignments


def open_engine(
    folder: RunFolder,
    tiny: TinyModel,
    overrides: list[str],
    *,
    resume: bool = False,
    classes: tuple[ClassConfig, ...] = (),
    **options: Any,
) -> Played:
    config = replace(tiny_config(tiny.folder, overrides), classes=classes)
    run = Run.resume(folder, tiny.folder) if resume else Run.create(folder, config, tiny.folder)
    run.open_log(wall=options.pop("wall", time.time))
    engine = make_engine(run, LABELS, **options)
    return Played(engine=engine, model=tiny, folder=folder)


@pytest.fixture(params=["fedavg-lora", "fedspine"])
def played(request: pytest.FixtureRequest, tiny: TinyModel, tmp_path: Path) -> Iterator[Played]:
    overrides = PRUNING if request.param == "fedspine" else ["run.rounds=5"]
    made = open_engine(RunFolder(tmp_path), tiny, overrides)
    yield made
    made.engine.log.close()
    made.engine.ledger.close()


def test_a_plan_hands_every_device_what_its_arm_needs(played: Played) -> None:
    works = played.begin()
    assert works.keys() == set(DEVICES) and played.engine.ledger.load().next_round == 1
    for work in works.values():
        assert work.round == 1 and work.weight >= 1 and work.basis == "persistent"
        for ref in (work.keep_set, work.head, *work.rank_blocks):
            assert blob_name(ref.inline) == ref.id and played.engine.blobs.size(ref.id) == ref.size
        data = encode(
            small_update(played.model.geometry, work, read_keep_set(work, played.engine.blobs), "a"),
            work.training.codec,
        )
        assert len(data) <= work.max_upload_bytes


def test_a_round_adds_the_weighted_mean_of_its_updates(played: Played) -> None:
    works = played.begin()
    before = {name: value.copy() for name, value in played.engine.model.tensors.items()}
    played.count(works)
    played.close(1)
    weights = {device: work.weight for device, work in works.items()}
    increments = {
        device: small_update(played.model.geometry, work, read_keep_set(work, played.engine.blobs), device)
        for device, work in works.items()
    }
    mean = sum(weights[device] * increments[device]["head.bias"] for device in works) / sum(weights.values())
    np.testing.assert_allclose(played.engine.model.tensors["head.bias"], before["head.bias"] + mean, atol=2e-9)
    assert played.engine.model.adapter.round == 1
    assert len(played.engine.ledger.outcomes()[1]) == 2


def test_a_device_hears_with_its_next_work_which_of_its_updates_counts(tiny: TinyModel, tmp_path: Path) -> None:
    played = open_engine(RunFolder(tmp_path), tiny, ["run.rounds=9"])
    works = played.begin()
    assert {work.counted_round for work in works.values()} == {0}
    for number, accepted, void, expected in (
        (1, ("a", "b"), False, {"a": 1, "b": 1}),
        (2, ("a",), False, {"a": 2, "b": 1}),
        (3, ("a", "b"), True, {"a": 2, "b": 1}),
    ):
        played.count({device: works[device] for device in accepted})
        works = played.close(number, accepted=accepted, void=void)
        assert {device: work.counted_round for device, work in works.items()} == expected
    played.engine.log.close()
    played.engine.ledger.close()
    resumed = open_engine(RunFolder(tmp_path), tiny, [], resume=True)
    works = resumed.begin(4)
    assert {device: work.counted_round for device, work in works.items()} == {"a": 2, "b": 1}
    resumed.engine.log.close()
    resumed.engine.ledger.close()


def test_devices_of_equal_arms_and_other_codecs_may_send_as_much_as_theirs_takes(
    tiny: TinyModel, tmp_path: Path
) -> None:
    played = open_engine(RunFolder(tmp_path), tiny, ["training.codec=int4"])
    newer = replace(PROFILES["a"], codecs=PARTS)
    command = Turn(closed=None, next_round=1, roster=DEVICES)
    works = played.engine.turn(command, PROFILES | {"a": newer}, 0).assignments
    assert {device: work.training.codec for device, work in works.items()} == {"a": "int4", "b": "bf16+zstd"}
    for device, work in works.items():
        played.sum.verify(device, played.submission(device, work))
        sent = encode(
            small_update(tiny.geometry, work, read_keep_set(work, played.engine.blobs), device), work.training.codec
        )
        assert len(sent) <= work.max_upload_bytes
    assert works["a"].max_upload_bytes < works["b"].max_upload_bytes
    played.engine.log.close()
    played.engine.ledger.close()


def test_a_downlink_of_deltas_offers_them_while_they_are_of_use(tiny: TinyModel, tmp_path: Path) -> None:
    played = open_engine(RunFolder(tmp_path), tiny, ["run.rounds=9", "training.downlink=delta", "strategy.ranks=[600]"])
    works, offered = played.begin(), []
    assert not any(ref.delta_id for ref in works["a"].rank_blocks)
    for number in (1, 2, 3, 4):
        held = {ref.id for ref in works["a"].rank_blocks}
        played.count(works)
        works = played.close(number)
        deltas = [ref for ref in works["a"].rank_blocks if ref.delta_id]
        assert deltas and all(ref.delta_base in held and not ref.inline for ref in deltas)
        for ref in deltas:
            made = apply_delta(
                played.engine.blobs.read_bytes(ref.delta_base), played.engine.blobs.read_bytes(ref.delta_id)
            )
            assert blob_name(made) == ref.id
        offered.append({ref.delta_id for ref in deltas})
    assert not any(played.engine.blobs.has(each) for each in offered[0] | offered[1])
    played.engine.log.close()
    played.engine.ledger.close()


def test_a_round_hands_out_what_the_strategy_makes_of_the_configuration(tiny: TinyModel, tmp_path: Path) -> None:
    played = open_engine(RunFolder(tmp_path), tiny, ["strategy.name=ffa-lora", "strategy.ranks=[1, 2]"])
    assert played.engine.config.training.downlink == "delta", "half of FFA-LoRA's adapter stays as it is"
    assert [ref.name for ref in played.begin()["a"].rank_blocks] == ["0-2"]
    played.engine.log.close()
    played.engine.ledger.close()


@pytest.mark.parametrize("downlink", ["full", "delta", "bf16"])
def test_devices_fetch_the_rows_they_keep_and_older_rings_go(wide: TinyModel, tmp_path: Path, downlink: str) -> None:
    changes = [*PRUNING, "run.rounds=9", "strategy.recovery_rounds=5", "strategy.ranks=[8]"]
    changes += ["training.handout=kept", f"training.downlink={downlink}"]
    played = open_engine(RunFolder(tmp_path), wide, changes)
    blobs, spec = played.engine.blobs, played.engine.strategy.spec
    works, offered, deltas = played.begin(), [], 0
    for number in range(1, 7):
        handed = played.engine.model.as_downloaded()
        for device, work in works.items():
            kept = played.sum.terms.assignments[device].keep_set
            assert bool(work.rings) == (number > 1), "the first round cuts nobody"
            assert read_keep_set(work, blobs) == kept
            held = read_received(work, blobs).tensors
            for name, value in restrict(spec, handed, rank=8, keep_set=kept).items():
                np.testing.assert_array_equal(held[name], value)
            deltas += sum(bool(ref.delta_id) for ref in work.rank_blocks if work.rings)
        offered.append({ref.id for work in works.values() if work.rings for ref in work.rank_blocks if not ref.inline})
        for device, work in works.items():
            played.sum.verify(device, played.submission(device, work))
            played.sum.fold(device)
        works = played.close(number)
    assert offered[1] and offered[5]
    assert not any(blobs.has(each) for each in set[str]().union(*offered[:5]) - offered[5])
    assert (deltas > 0) == (downlink == "delta")
    played.engine.log.close()
    played.engine.ledger.close()


def test_a_rounded_downlink_hands_out_bfloat16_and_keeps_float32(tiny: TinyModel, tmp_path: Path) -> None:
    played = open_engine(RunFolder(tmp_path), tiny, ["run.rounds=9", "training.downlink=bf16"])
    works = played.begin()
    for number in (1, 2):
        played.count(works)
        works = played.close(number)
        read = read_handout(played.engine.blobs, works["a"].rank_blocks, works["a"].head)
        handed, exact = played.engine.model.as_downloaded(), played.engine.model.tensors
        for name, value in read.items():
            axis = 0 if name.endswith(".A") else -1
            np.testing.assert_array_equal(value, np.take(handed[name], range(value.shape[axis]), axis=axis))
            rounded = exact[name] if name.startswith("head.") else from_bf16(to_bf16(np.array(exact[name])))
            np.testing.assert_array_equal(handed[name], rounded)
    assert any((handed[name] != exact[name]).any() for name in exact), "the coordinator's own is not rounded"
    played.engine.log.close()
    played.engine.ledger.close()


@pytest.mark.parametrize("downlink", ["full", "bf16"])
def test_a_bundling_rule_is_told_what_devices_began_with(tiny: TinyModel, tmp_path: Path, downlink: str) -> None:
    changes = ["run.rounds=9", f"training.downlink={downlink}", "strategy.aggregator=delta-stack"]
    played = open_engine(RunFolder(tmp_path), tiny, changes)
    works = played.begin()
    played.count(works)
    works = played.close(1)
    known = played.sum.terms.adapter
    assert known is not None
    for name, value in read_handout(played.engine.blobs, works["a"].rank_blocks, works["a"].head).items():
        first = tuple(slice(size) for size in value.shape)
        np.testing.assert_array_equal(known[name][first], value)
    assert {work.basis for work in works.values()} == {works["a"].rank_blocks[0].id}, "every round is a new basis"
    played.engine.log.close()
    played.engine.ledger.close()


def test_an_update_counts_once_however_often_it_comes(played: Played) -> None:
    works = played.begin()
    played.count(works)
    played.count(works)
    assert played.sum.folded == set(DEVICES)
    played.close(1)
    (report,) = played.engine.ledger.reports().values()
    assert report["weight"] == sum(work.weight for work in works.values())


def test_a_void_round_changes_nothing_but_the_ledger(played: Played) -> None:
    works = played.begin()
    before = {name: value.copy() for name, value in played.engine.model.tensors.items()}
    adapter = played.engine.model.adapter
    played.sum.verify("a", played.submission("a", works["a"]))
    played.sum.fold("a")
    played.close(1, void=True, accepted=("a",))
    assert played.engine.model.adapter == adapter
    assert all(np.array_equal(value, before[name]) for name, value in played.engine.model.tensors.items())
    held = played.engine.ledger.load()
    assert (held.next_round, held.void_rounds, held.void_streak) == (2, 1, 1)


def test_an_accepted_update_that_was_not_folded_is_never_closed_over(played: Played) -> None:
    works = played.begin()
    played.sum.verify("a", played.submission("a", works["a"]))
    with pytest.raises(RunError, match="round 1: accepted but not counted: a, b; resume from the last round"):
        played.close(1)
    assert played.engine.ledger.load().next_round == 1 and played.engine.ledger.rounds() == ()


def test_what_nobody_asked_for_is_not_looked_at(played: Played) -> None:
    works = played.begin()
    unasked = played.submission("a", works["a"])
    played.sum.verify("stranger", unasked)
    played.sum.verify("a", replace(unasked, round=7))
    assert played.sum.updates == {}


def test_an_update_that_comes_while_no_round_is_open_is_not_looked_at(played: Played) -> None:
    unasked = UpdateSubmission(
        round=1, update=BlobRef(id="../../x", size=3), scores=None, keep_set="", report=device_report()
    )
    played.engine.with_sum(RoundSum.verify, "a", unasked)
    works = played.begin()
    played.engine.with_sum(RoundSum.verify, "a", played.submission("a", works["a"]))
    assert list(played.sum.updates) == ["a"]


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "keep-set": ({"keep_set": "sha256:" + "1" * 64}, "not the assigned one"),
    "missing blob": ({"update": BlobRef(id="sha256:" + "2" * 64, size=3)}, "is not here"),
    "no blob name": ({"update": BlobRef(id="../../x", size=3)}, "expected sha256:"),
    "other bytes": ({"update": BlobRef(id="sha256:" + "3" * 64, size=3, inline=b"abc")}, "send them again"),
    "infinite report": ({"report": device_report(loss_before=float("inf"))}, "reported loss_before inf"),
    "negative report": ({"report": device_report(peak_memory_mb=-1.0)}, "expected a finite number of 0 or more"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_submission_that_does_not_fit_names_device_and_round(case: str, played: Played) -> None:
    works = played.begin()
    changes, words = CHANGES[case]
    with pytest.raises(UpdateRejected) as caught:
        played.sum.verify("a", played.submission("a", works["a"], **changes))
    assert str(caught.value).startswith("update of a for round 1") and words in str(caught.value)
    assert str(caught.value).count("update of a") == 1
    assert played.sum.updates == {}


def test_an_inline_update_over_the_bound_is_refused(played: Played) -> None:
    works = played.begin()
    data = bytes(works["a"].max_upload_bytes + 1)
    ref = BlobRef(id=blob_name(data), size=len(data), inline=data)
    with pytest.raises(UpdateRejected, match="came inside a message, expected at most"):
        played.sum.verify("a", played.submission("a", works["a"], update=ref))


def test_an_empty_upload_is_refused(played: Played) -> None:
    works = played.begin()
    with pytest.raises(UpdateRejected, match="is empty; send the encoded tensors"):
        played.sum.verify("a", played.submission("a", works["a"], update=played.stored(b"")))


@pytest.mark.parametrize("damage", ["missing", "negative", "nan", "shape"])
def test_importances_must_fit_where_they_were_asked_for(damage: str, tiny: TinyModel, tmp_path: Path) -> None:
    played = open_engine(RunFolder(tmp_path), tiny, PRUNING)
    works = played.begin()
    work = works["a"]
    assert work.score
    scores = score_vectors(read_keep_set(work, played.engine.blobs), "a")
    name = "layers.0.heads"
    match damage:
        case "negative":
            scores[name] = -scores[name]
        case "nan":
            scores[name] = np.full_like(scores[name], np.nan)
        case "shape":
            scores[name] = scores[name][:1]
    ref = None if damage == "missing" else played.stored(encode(scores, "identity"))
    with pytest.raises(UpdateRejected, match="update of a for round 1"):
        played.sum.verify("a", played.submission("a", work, scores=ref))
    played.engine.log.close()
    played.engine.ledger.close()


def test_scores_nobody_asked_for_are_neither_read_nor_deleted(tiny: TinyModel, tmp_path: Path) -> None:
    played = open_engine(RunFolder(tmp_path), tiny, [])
    works = played.begin()
    precious = played.stored(b"a blob of somebody else's")
    for device in DEVICES:
        played.sum.verify(device, played.submission(device, works[device], scores=precious))
        played.sum.fold(device)
    played.close(1)
    assert played.engine.blobs.has(precious.id)
    played.engine.log.close()
    played.engine.ledger.close()


def test_update_blobs_go_at_close_and_the_last_two_globals_stay(played: Played) -> None:
    adapters = [played.engine.model.adapter]
    works = played.begin()
    for number in range(1, 5):
        updates = {played.submission(device, work).update.id for device, work in works.items()}
        played.engine.uploaded_blobs = {played.stored(f"late {number}".encode()).id}
        played.count(works)
        works = played.close(number)
        adapters.append(played.engine.model.adapter)
        assert not any(played.engine.blobs.has(blob_id) for blob_id in updates | played.engine.uploaded_blobs)
        for adapter in adapters[-2:]:
            assert all(played.engine.blobs.has(ref.id) for ref in (*adapter.rank_blocks, adapter.head))
        gone = {ref.id for adapter in adapters[:-2] for ref in (*adapter.rank_blocks, adapter.head)}
        gone -= {ref.id for adapter in adapters[-2:] for ref in (*adapter.rank_blocks, adapter.head)}
        assert not any(played.engine.blobs.has(blob_id) for blob_id in gone)
    assert len(list(played.folder.globals.iterdir())) == 2


def test_what_the_evaluator_still_needs_stays(played: Played) -> None:
    first = played.engine.model.adapter
    needed = {ref.id for ref in (*first.rank_blocks, first.head)}
    played.engine.pinned_blobs = needed
    works = played.begin()
    for number in (1, 2, 3):
        played.count(works)
        works = played.close(number)
        assert all(played.engine.blobs.has(blob_id) for blob_id in needed)
    played.engine.pinned_blobs = set()
    played.count(works)
    played.close(4)
    assert not any(played.engine.blobs.has(ref.id) for ref in first.rank_blocks)


def test_the_last_turn_plans_nothing(played: Played) -> None:
    works = played.begin()
    played.count(works)
    assert played.close(1, last=True) == {}
    assert played.engine.ledger.load().finished and played.engine.open is None


def test_closing_tells_what_folding_and_closing_took_and_whose_clock_is_wrong(played: Played) -> None:
    works = played.begin()
    report = replace(device_report(), phase_s={"train": 40.0})
    played.sum.verify("a", played.submission("a", works["a"]))
    played.sum.verify("b", played.submission("b", works["b"], report=report))
    for device in DEVICES:
        played.sum.fold(device)
    played.close(1)
    (rows,) = played.engine.ledger.outcomes().values()
    assert [row["timing"] for row in rows] == ["ok", "clock"] and all(row["fold_s"] > 0 for row in rows)
    told = {event["event"]: event for event in read_events(played.folder.events)}
    assert list(told)[-1] == "committed", "last: after what it is about was committed"
    assert told["clock"]["device"] == "b" and told["clock"]["overrun_s"] == 39.0
    assert told["committed"]["round"] == 1 and told["committed"]["close_s"] > 0
    assert played.engine.ledger.get_meta("close/1") == told["committed"]["close_s"]


def test_a_device_s_time_runs_from_its_push_to_its_acceptance_or_the_close(played: Played) -> None:
    """Not from the opening of the round: a device that came later is not slower for that."""
    works = played.begin()
    played.count({"a": works["a"]})
    played.close(1, accepted=("a",), pushed_at_s=1.75)
    (rows,) = played.engine.ledger.outcomes().values()
    assert {row["device"]: (row["status"], row["time_s"]) for row in rows} == {
        "a": ("accepted", 0.25),
        "b": ("lost", 1.25),
    }


def test_equal_runs_under_clocks_that_are_given_leave_equal_bytes(tiny: TinyModel, tmp_path: Path) -> None:
    left = []
    for place in (tmp_path / "one", tmp_path / "two"):
        place.mkdir()
        ticks = iter(range(1000))
        folder = RunFolder(place)
        played = open_engine(folder, tiny, PRUNING, wall=lambda: 5.0, clock=lambda ticks=ticks: next(ticks) / 8)
        works = played.begin()
        for number in (1, 2, 3):
            played.count(works)
            works = played.close(number, last=number == 3)
        engine = played.engine
        engine.log.close()
        summary = build_summary(
            config=engine.config,
            ledger=engine.ledger,
            strategy=engine.strategy,
            state=engine.state,
            classes=("tiny",),
            status="finished",
        )
        engine.ledger.close()
        left.append((folder.events.read_bytes(), folder.rounds.read_bytes(), json.dumps(summary)))
    assert left[0] == left[1]
    (committed, *_) = [each for each in read_events(folder.events) if each["event"] == "committed"]
    assert committed["close_s"] * 8 == int(committed["close_s"] * 8) > 0


def test_a_base_shift_is_on_offer_whole_and_in_steps(tiny: TinyModel, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    folder = RunFolder(tmp_path / "run")
    played = open_engine(folder, tiny, ["run.rounds=9", "strategy.name=flora", "strategy.ranks=[1]"])
    works = played.begin()
    assert works["a"].base_shift is None
    always, seldom, store = BaseShiftCache(), BaseShiftCache(), played.engine.blobs
    for number in (1, 2, 3):
        played.count(works)
        works = played.close(number)
        shift = works["a"].base_shift
        assert shift is not None and shift.round == number and shift.steps[-1].name == f"{number - 1}-{number}"
        assert always.missing(shift) == shift.steps[-1:]
        for name, held in {"always": always, "seldom": seldom}.items():
            copied = BlobStore(tmp_path / f"{name}-{number}")
            for ref in shift.refs:
                copied.put_bytes(store.read_bytes(ref.id))
            if name == "always" or number != 2:
                held.advance(shift, copied)
    for held in (always, seldom):
        assert held.missing(shift) == () and held.tensors.keys() == shift_shapes(played.engine.strategy.spec).keys()
        assert all(np.array_equal(value, played.engine.model.tensors[name]) for name, value in held.tensors.items())
    played.engine.log.close()
    played.engine.ledger.close()
    resumed = open_engine(folder, tiny, [], resume=True)
    works = resumed.begin(4)
    assert works["a"].base_shift == replace(shift, steps=()), "steps are known to one process alone"
    resumed.count(works)
    works = resumed.close(4)
    following = works["a"].base_shift
    assert following is not None and always.missing(following) == following.steps, "and begin again where it went on"
    resumed.engine.log.close()
    resumed.engine.ledger.close()
