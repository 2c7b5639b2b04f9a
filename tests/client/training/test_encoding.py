"""Error feedback over rounds, restarts and every fate an update can have: nothing counts twice, nothing is lost."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedcore.client.training.trainer import TrainingOutcome
from fedcore.core.codec.chain import decode
from fedcore.core.contract.outcome import GroupScores
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.trained_part import EVERYTHING, Factors, TrainedPart
from fedcore.protos.values import RoundClosed, UpdateSubmission, UpdateVerdict, Verdict, WireAssignment
from tests.client.conftest import GEOMETRY, WELCOME, Bench, make_assignment
from tests.tiny_run import small_update

MakeBench = Callable[..., Bench]
Arrays = dict[str, NDArray[np.float32]]

CODEC = "ef+topk:0.2+int4"
FATES = (
    *("counted", "counted after a restart", "counted, sent twice", "counted, untold"),
    *("void", "late", "rejected", "late after a restart", "never sent", "round opened anew"),
)


@dataclass
class Books:
    """One device over its restarts: what it meant to say with updates that counted, and what these said."""

    make_bench: MakeBench
    codec: str = CODEC
    parts: tuple[TrainedPart, ...] = (EVERYTHING,)  # in turn
    bench: Bench = field(init=False)
    meant: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    said: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    counted_round: int = 0

    async def start(self) -> None:
        self.bench = self.make_bench()
        await self.bench.agent.welcome(WELCOME, self.bench.stream)  # type: ignore[arg-type]

    async def restart(self) -> None:
        await self.bench.agent.close()
        await self.start()

    async def push(self, number: int, **changes: int) -> WireAssignment:
        assignment = make_assignment(number, codec=self.codec, **changes)  # type: ignore[arg-type]
        training = replace(assignment.training, trains=self.parts[number % len(self.parts)])
        assignment = replace(assignment, counted_round=self.counted_round, training=training)
        await self.bench.agent.message(assignment, self.bench.stream)  # type: ignore[arg-type]
        await self.bench.settled()
        return assignment

    async def tell(self, number: int, word: Verdict) -> None:
        await self.bench.agent.message(UpdateVerdict(round=number, verdict=word), self.bench.stream)  # type: ignore[arg-type]

    async def close(self, number: int) -> None:
        await self.bench.agent.message(RoundClosed(round=number), self.bench.stream)  # type: ignore[arg-type]

    def update(self) -> Arrays:
        submission: UpdateSubmission = self.bench.stream.of(UpdateSubmission)[-1]
        return dict(decode(submission.update.inline))

    def enter(self, assignment: WireAssignment, update: Arrays) -> None:
        self.counted_round = assignment.round
        meant = small_update(GEOMETRY, assignment, KeepSet.from_bytes(assignment.keep_set.inline), "device")
        for book, entries in ((self.meant, meant), (self.said, update)):
            for name, value in entries.items():
                book[name] = book.get(name, np.zeros(value.shape)) + value

    def kept(self) -> Arrays:
        held = self.bench.state.residuals.committed()
        return {} if held is None else dict(held.tensors)

    async def assert_balanced(self) -> None:
        """Compare, once the next assignment has told what became of the last update."""
        await self.push(99)
        kept = self.kept()
        for name, value in self.meant.items():
            assert np.allclose(value, self.said[name] + kept.get(name, 0.0), atol=1e-8), name

    async def live(self, number: int, fate: str) -> None:
        """One round that ends with the given fate; the books are kept as the coordinator would."""
        assignment = await self.push(number)
        update = self.update()
        if "restart" in fate:
            await self.restart()
        match fate:
            case "counted" | "counted after a restart" | "void":
                await self.tell(number, Verdict.ACCEPTED)
                await self.close(number)
            case "counted, sent twice":
                await self.restart()
                await self.push(number)
                again = self.update()
                assert all(np.array_equal(again[name], value) for name, value in update.items()), "sent as it was"
                await self.tell(number, Verdict.ACCEPTED)
            case "late" | "late after a restart":
                await self.tell(number, Verdict.LATE)
            case "rejected":
                await self.tell(number, Verdict.REJECTED)
            case "never sent":
                await self.restart()
                (self.bench.state.root / "update.spool").unlink()
            case "round opened anew":
                await self.tell(number, Verdict.ACCEPTED)
                await self.restart()
                await self.push(number, heads=1)
        if "counted" in fate:
            self.enter(assignment, update)


@pytest.mark.parametrize("fate", FATES)
async def test_the_books_balance_after_every_fate(fate: str, make_bench: MakeBench) -> None:
    books = Books(make_bench)
    await books.start()
    for number, each in enumerate(("counted", fate, "counted", fate, fate, "counted"), start=1):
        await books.live(number, each)
    await books.assert_balanced()
    assert max(float(np.abs(value).max()) for value in books.kept().values()) > 0
    await books.bench.agent.close()


@pytest.mark.parametrize("seed", range(4))
async def test_the_books_balance_over_any_lives(seed: int, make_bench: MakeBench) -> None:
    books = Books(make_bench)
    await books.start()
    fates = np.random.default_rng(seed).choice(FATES, 12)
    for number, fate in enumerate(fates, start=1):
        await books.live(number, str(fate))
    await books.live(13, "counted")
    await books.assert_balanced()
    await books.bench.agent.close()


async def test_the_books_balance_where_parts_take_turns(make_bench: MakeBench) -> None:
    books = Books(make_bench, parts=(TrainedPart(factors=Factors.A), TrainedPart(factors=Factors.B)))
    await books.start()
    for number, fate in enumerate(("counted", "counted", "late", "void", "counted", "counted", "counted"), start=1):
        await books.live(number, fate)
        assert {name[-2:] for name in books.update() if "layers" in name} == {".B" if number % 2 else ".A"}
    await books.assert_balanced()
    await books.bench.agent.close()


async def test_a_cut_drops_what_it_touches_and_no_more(make_bench: MakeBench) -> None:
    books = Books(make_bench)
    await books.start()
    await books.live(1, "counted")
    assignment = await books.push(2, heads=1)
    before = books.kept()
    update, meant = (
        books.update(),
        small_update(GEOMETRY, assignment, KeepSet.from_bytes(assignment.keep_set.inline), "device"),
    )
    books.counted_round = 2
    await books.push(3, heads=1)
    after = books.kept()
    for name, value in meant.items():
        carried = name.endswith((".q.A", ".k.A", ".v.A", ".o.B", "up.A", "up.B", "down.A", "down.B")) or "head" in name
        expected = update[name] + after[name] - value
        assert np.allclose(expected, before[name] if carried else 0.0, atol=1e-8), name
    await books.bench.agent.close()


async def test_a_codec_without_feedback_leaves_the_residual_alone(make_bench: MakeBench) -> None:
    books = Books(make_bench)
    await books.start()
    await books.live(1, "counted")
    books.codec = "int4"
    assignment = await books.push(2)
    before = books.kept()
    books.counted_round = 2
    await books.push(3)
    meant = small_update(GEOMETRY, assignment, KeepSet.from_bytes(assignment.keep_set.inline), "device")
    assert all(np.allclose(books.update()[name], value, atol=1e-4) for name, value in meant.items())
    assert {name: value.tolist() for name, value in books.kept().items()} == {
        name: value.tolist() for name, value in before.items()
    }
    await books.bench.agent.close()


async def test_importances_and_keep_sets_are_never_lossy(make_bench: MakeBench) -> None:
    bench = make_bench()
    scores = GroupScores(
        heads=(np.array([1 / 3, 1e-30], np.float32),), channels=(np.linspace(0, 1, 16, dtype=np.float32) ** 9,)
    )
    run = bench.trainer.run

    def scored(*arguments: Any) -> TrainingOutcome:
        trained = run(*arguments)
        return replace(trained, result=replace(trained.result, scores=scores))

    bench.trainer.run = scored  # type: ignore[method-assign]
    await bench.agent.welcome(WELCOME, bench.stream)  # type: ignore[arg-type]
    assignment = make_assignment(1, codec="ef+topk:0.1+int4+zstd")
    await bench.agent.message(assignment, bench.stream)  # type: ignore[arg-type]
    await bench.settled()
    (submission,) = bench.stream.of(UpdateSubmission)
    sent = decode(submission.scores.inline)
    assert sent["layers.0.heads"].tobytes() == scores.heads[0].tobytes()
    assert sent["layers.0.channels"].tobytes() == scores.channels[0].tobytes()
    assert submission.keep_set == assignment.keep_set.id
    await bench.agent.close()
