"""Arriving: who is asked, where a newcomer goes, and when it gives up."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import fedcore.client.device.arrival as module
from fedcore.client.device.arrival import arrive
from fedcore.client.options import ClientOptions, DataOptions
from fedcore.core.errors import CertificateError, TransportError
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.protos.values import BlobRef, Newcomer, RunDescription
from tests.tiny_run import PATIENCE_S

ME = Newcomer(name="cam", device_class="tiny")
HERE = RunDescription(
    protocol_min=1,
    protocol_max=1,
    run_id="r",
    labels=("a", "b"),
    fingerprint=Fingerprint(tensors="", config="", tokenizer=""),
    model_files=(),
    max_length=8,
    head="mean",
    dtype="float32",
)


@dataclass
class Parents:
    """Links to parents of which some are away; `fetched` says where files came from."""

    targets: tuple[str, ...]
    away: set[str] = field(default_factory=set)
    description: RunDescription = HERE
    asked: list[tuple[str, Newcomer | None]] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    at: int = 0

    @property
    def target(self) -> str:
        return self.targets[self.at]

    async def switch(self) -> None:
        self.at = (self.at + 1) % len(self.targets)

    async def prefer(self, targets: Sequence[str]) -> None:
        self.targets, self.at = tuple(dict.fromkeys((*targets, *self.targets))), 0

    async def describe(self, newcomer: Newcomer | None = None) -> RunDescription:
        self.asked.append((self.target, newcomer))
        self._reach()
        return self.description

    async def fetch(self, ref: BlobRef, store: Any) -> int:
        self._reach()
        self.fetched.append(self.target)
        store.put_bytes(b"{}")
        return ref.size

    def _reach(self) -> None:
        if self.target in self.away:
            raise TransportError(f"{self.target}: UNAVAILABLE")


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClientOptions:
    monkeypatch.setattr(module, "PAUSE_S", 0.001)
    data = DataOptions(train="", test=None, text=("text",), label="label", test_fraction=0.0)
    said: list[str] = []
    return ClientOptions(
        targets=("a:1",),
        name="cam",
        tls=None,
        model=tmp_path,
        data=data,
        state=tmp_path / "state",
        reconnect_s=PATIENCE_S,
        say=said.append,
    )


async def arrived(parents: Parents, options: ClientOptions, newcomer: Newcomer | None) -> tuple[RunDescription, Path]:
    return await asyncio.wait_for(arrive(parents, options, newcomer), PATIENCE_S)  # type: ignore[arg-type]


async def test_a_newcomer_goes_where_it_is_sent(options: ClientOptions, tmp_path: Path) -> None:
    parents = Parents(("root:1",), description=replace(HERE, parents=("e:1", "f:1")))
    assert await arrived(parents, options, ME) == (parents.description, tmp_path)
    assert parents.asked == [("root:1", ME)]
    assert parents.targets == ("e:1", "f:1", "root:1") and parents.target == "e:1"


async def test_an_evaluator_stays(options: ClientOptions) -> None:
    parents = Parents(("root:1",), description=replace(HERE, parents=("e:1",)))
    await arrived(parents, options, None)
    assert parents.asked == [("root:1", None)] and parents.target == "root:1"


async def test_the_next_parent_is_asked_where_one_is_away(options: ClientOptions) -> None:
    parents = Parents(("a:1", "b:1", "c:1"), away={"a:1", "b:1"})
    await arrived(parents, options, ME)
    assert [target for target, _ in parents.asked] == ["a:1", "b:1", "c:1"] and parents.target == "c:1"


async def test_the_model_comes_from_the_parent_one_is_sent_to_or_the_next(options: ClientOptions) -> None:
    ref = BlobRef(id="sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", size=2, name="config")
    parents = Parents(("root:1",), away={"e:1"}, description=replace(HERE, parents=("e:1", "f:1"), model_files=(ref,)))
    _, folder = await arrived(parents, replace(options, model=None), ME)
    assert parents.fetched == ["f:1"] and (folder / "config").read_bytes() == b"{}"


async def test_every_parent_gets_its_try_before_giving_up(options: ClientOptions) -> None:
    parents = Parents(("a:1", "b:1"), away={"a:1", "b:1"})
    with pytest.raises(TransportError, match=r"b:1: UNAVAILABLE; gave up after 0 s: is the coordinator running"):
        await arrived(parents, replace(options, reconnect_s=0.0), ME)
    assert [target for target, _ in parents.asked] == ["a:1", "b:1"]


async def test_what_another_try_cannot_mend_is_not_tried_again(options: ClientOptions) -> None:
    class Strict(Parents):
        def _reach(self) -> None:
            raise CertificateError("names another")

    with pytest.raises(CertificateError):
        await arrived(Strict(("a:1", "b:1")), options, ME)
