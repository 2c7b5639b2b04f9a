"""Device and evaluator processes put together: what they join with, what they work with, what they close."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

import fedcore.client.device.run as module
import fedcore.nn.training.self_measurement as self_measurement
from fedcore.client.data.rows import Rows
from fedcore.client.device.agent import Agent
from fedcore.client.device.run import run_device, run_evaluator
from fedcore.client.device.state import StateFolder
from fedcore.client.evaluation.evaluator import Evaluator
from fedcore.client.options import ClientOptions, DataOptions, DeviceLimits
from fedcore.client.training.trainer import ModelSource
from fedcore.core.codec.grammar import PARTS
from fedcore.core.contract.profile import DeviceProfile, SelfMeasurement
from fedcore.core.errors import ConfigError, DataError, JoinRefused, TransportError
from fedcore.core.model.keep_set import KeepSet
from fedcore.nn.accelerator.host_memory import FreeMemory
from fedcore.protos.values import Join, Newcomer, Role, RunDescription, Shard, Welcome
from fedcore.protos.wire import PROTOCOL
from fedcore.storage.models.checkpoint import fingerprint
from tests.client.conftest import WELCOME
from tests.client.device.test_arrival import HERE
from tests.tiny_run import write_model

LIMITS = DeviceLimits(
    device_class="nx", slowdown=2.0, memory_mb=512.0, uplink_mbps=4.0, downlink_mbps=8.0, network="lte"
)


@dataclass
class FakeLink:
    """Remembers its settings and whether it was closed."""

    made: ClassVar[list["FakeLink"]]
    settings: Any
    downlink_mbps: float = 7.5
    heard_s: float = 0.0
    closed: bool = False

    def __post_init__(self) -> None:
        self.made.append(self)

    async def close(self) -> None:
        """Close."""
        self.closed = True


@dataclass(kw_only=True)
class FakeConnection:
    """Joins twice, as after a reconnect, welcomes where `welcomes` is set, and ends with its parent's reason."""

    made: ClassVar[list["FakeConnection"]]
    fault: ClassVar[Exception | None] = None
    welcomes: ClassVar[bool] = False
    link: Any
    make_join: Callable[[], Any]
    on_welcome: Callable[[Welcome, Any], Any]
    on_message: Callable[[Any, Any], Any]
    say: Callable[[str], None]
    reconnect_s: float
    on_lost: Callable[[], None] = lambda: None
    joins: list[Join] = field(default_factory=list)

    async def run(self) -> str:
        """Run to the end."""
        self.made.append(self)
        self.joins = [await self.make_join(), await self.make_join()]
        if self.fault is not None:
            raise self.fault
        if self.welcomes:
            await self.on_welcome(WELCOME, object())
        return "the run is finished"

    @property
    def worker(self) -> Any:
        """Whose methods it calls."""
        return self.on_welcome.__self__  # type: ignore[attr-defined]


@dataclass
class World:
    """What stands around a process of a client."""

    options: ClientOptions
    description: RunDescription
    said: list[str]
    newcomers: list[Newcomer | None] = field(default_factory=list)

    @property
    def link(self) -> FakeLink:
        (link,) = FakeLink.made
        return link

    @property
    def member(self) -> FakeConnection:
        (member,) = FakeConnection.made
        return member


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    write_model(tmp_path / "base")
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"row {n},{'ab'[n % 2]}\n" for n in range(8)))
    said: list[str] = []
    options = ClientOptions(
        targets=("a:1", "b:2"),
        name="cam",
        tls=None,
        model=tmp_path / "base",
        data=DataOptions(
            train=str(tmp_path / "rows.csv"),
            test=str(tmp_path / "rows.csv"),
            text=("text",),
            label="label",
            test_fraction=0.0,
        ),
        state=tmp_path / "state",
        reconnect_s=12.0,
        say=said.append,
    )
    world = World(options, HERE, said)

    async def arrive(
        link: Any, options: ClientOptions, newcomer: Newcomer | None = None
    ) -> tuple[RunDescription, Path]:
        assert link is world.link
        world.newcomers.append(newcomer)
        return world.description, tmp_path / "base"

    FakeLink.made, FakeConnection.made = [], []
    monkeypatch.setattr(FakeConnection, "fault", None)
    monkeypatch.setattr(FakeConnection, "welcomes", False)
    monkeypatch.setattr(module, "Link", FakeLink)
    monkeypatch.setattr(module, "ParentConnection", FakeConnection)
    monkeypatch.setattr(module, "arrive", arrive)
    monkeypatch.setattr(self_measurement, "training_gflops", lambda folder, **named: 30.0)
    monkeypatch.setattr("fedcore.nn.training.trial_load.check_loadable", lambda *arguments, **options: None)
    return world


async def test_a_device_joins_with_what_it_is_and_measured(world: World) -> None:
    assert await run_device(world.options, LIMITS) == "the run is finished"
    identity, epoch = StateFolder.open(world.options.state).identity()
    assert epoch == 3, "two sessions so far"
    profile = DeviceProfile(
        name="cam",
        device_class="nx",
        num_examples=8,
        memory_mb=512.0,
        slowdown=2.0,
        uplink_mbps=4.0,
        downlink_mbps=8.0,
        label_counts=(("a", 4), ("b", 4)),
        network="lte",
        codecs=PARTS,
        trial=SelfMeasurement(gflops=15.0, downlink_mbps=7.5),
    )
    join = Join(
        protocol_min=PROTOCOL,
        protocol_max=PROTOCOL,
        role=Role.DEVICE,
        name="cam",
        device_uuid=identity,
        epoch=1,
        profile=profile,
        fingerprint=fingerprint(world.options.model),  # type: ignore[arg-type]
        max_length=HERE.max_length,
        labels=("a", "b"),
    )
    assert world.member.joins == [join, replace(join, epoch=2)]
    assert world.newcomers == [Newcomer(name="cam", device_class="nx")]


async def test_a_device_takes_its_accelerator_and_measures_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[tuple[str, str]] = []

    def training_gflops(folder: Path, *, dtype: str, max_length: int, device: str, precision: str) -> float:
        measured.append((device, precision))
        return 30.0

    monkeypatch.setattr(self_measurement, "training_gflops", training_gflops)
    monkeypatch.setattr("fedcore.nn.accelerator.present.accelerators", lambda: ("cuda:0", "cuda:1"))
    monkeypatch.setattr("fedcore.nn.accelerator.precision._has_bfloat16", lambda device: False)
    monkeypatch.setattr("fedcore.nn.training.trial_load.memory_scale", lambda trial, max_length: 1.25)
    await run_device(replace(world.options, device="cuda:1"), LIMITS)
    source, (join, *_) = world.member.worker.make_trainer(WELCOME).source, world.member.joins
    assert (source.device, source.precision, join.profile.precision) == ("cuda:1", "float16", "float16")
    assert join.profile.trial.memory_scale == 1.25
    assert measured == [("cuda:1", "float16")] and world.said == ["runs on cuda:1, in float16"]
    FakeConnection.made.clear()
    FakeLink.made.clear()
    await run_evaluator(world.options)
    source = world.member.worker.make_model_evaluator(WELCOME).source
    assert (source.device, source.precision) == ("cuda:0", "float32"), "auto takes the first, and measures exactly"


async def test_memory_is_what_is_free_if_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = FreeMemory(free=2000 << 20, total=4000 << 20)
    monkeypatch.setattr("fedcore.nn.accelerator.memory.free_memory", lambda device: memory)
    await run_device(replace(world.options, precision="bfloat16"), replace(LIMITS, memory_mb=0.0, memory_sharers=2))
    assert world.member.joins[0].profile.memory_mb == pytest.approx(850.0)
    assert world.said[:2] == [
        "runs on cpu, in bfloat16",
        "memory for training: 850 MiB, of 2000 free of 4000 MiB on cpu, shared by 2",
    ]


async def test_an_accelerator_that_is_not_there_ends_the_device_before_it_joins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedcore.nn.accelerator.present.accelerators", lambda: ())
    with pytest.raises(ConfigError, match="--device: no cuda: PyTorch finds no accelerator here"):
        await run_device(replace(world.options, device="cuda"), LIMITS)
    assert FakeConnection.made == [] and FakeLink.made[-1].closed


async def test_its_link_has_its_parents_and_its_limits_and_is_closed(world: World) -> None:
    await run_device(world.options, LIMITS)
    settings = world.link.settings
    assert settings.targets == ("a:1", "b:2") and settings.tls is None and world.link.closed
    assert (settings.uplink.bits_per_second, settings.downlink.bits_per_second) == (4e6, 8e6)
    assert (world.member.link, world.member.reconnect_s) == (world.link, 12.0)


async def test_an_agent_works_for_the_device(world: World) -> None:
    await run_device(world.options, LIMITS)
    agent = world.member.worker
    assert isinstance(agent, Agent) and agent.machine.shut_down, "it is closed"
    assert world.member.on_lost == agent.session_lost
    assert (agent.name, agent.num_examples, agent.memory_mb, agent.link) == ("cam", 8, 512.0, world.link)
    trainer = agent.make_trainer(WELCOME)
    assert trainer.source == ModelSource(
        folder=world.options.model,  # type: ignore[arg-type]
        labels=("a", "b"),
        head=HERE.head,
        dtype=HERE.dtype,
        max_length=HERE.max_length,
        targets=WELCOME.targets,
    )
    assert len(trainer.rows) == 8 and trainer.slow._factor == 2.0


async def test_a_device_that_was_here_before_joins_with_its_keep_set(world: World) -> None:
    keep_set = KeepSet(heads=((0,),), channels=((1, 2),))
    StateFolder.open(world.options.state).commit_keep_set(keep_set)
    await run_device(world.options, LIMITS)
    assert [join.keep_set for join in world.member.joins] == [keep_set.blob_id] * 2


async def test_a_device_that_asks_for_a_shard_trains_on_that_part(world: World) -> None:
    world.description = replace(HERE, shard=Shard(index=2, count=4, partition="iid", alpha=1.0, seed=0))
    data = replace(world.options.data, ask_shard=True)
    await run_device(replace(world.options, data=data, model=None), LIMITS)
    uuid = StateFolder.open(world.options.state).uuid()
    assert world.newcomers == [
        Newcomer(name="cam", device_class="nx", needs_model=True, wants_shard=True, device_uuid=uuid)
    ]
    profile = world.member.joins[0].profile
    assert profile is not None and profile.num_examples == 2 and world.said == ["its rows are shard 2 of 4"]
    assert len(world.member.worker.make_trainer(WELCOME).rows) == 2


async def test_a_shard_that_does_not_come_ends_the_device(world: World) -> None:
    data = replace(world.options.data, ask_shard=True)
    with pytest.raises(JoinRefused, match="no shard came for --shard auto"):
        await run_device(replace(world.options, data=data), LIMITS)
    assert world.link.closed and FakeConnection.made == []


async def test_rows_that_cannot_be_read_are_said_before_the_network_is_used(world: World) -> None:
    data = replace(world.options.data, train="nowhere.csv")
    with pytest.raises(DataError):
        await run_device(replace(world.options, data=data), LIMITS)
    assert FakeLink.made == []


async def test_an_end_with_an_error_closes_agent_and_link(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeConnection, "fault", TransportError("gave up"))
    with pytest.raises(TransportError, match="gave up"):
        await run_device(world.options, LIMITS)
    assert world.link.closed and world.member.worker.machine.shut_down


async def test_an_evaluator_joins_without_a_profile_and_measures_on_test_rows(world: World) -> None:
    assert await run_evaluator(world.options) == "the run is finished"
    (join, second), evaluator = world.member.joins, world.member.worker
    assert (join.role, join.name, join.profile, join.keep_set) == (Role.EVALUATOR, "cam", None, "")
    assert (join.labels, join.epoch, second.epoch) == (("a", "b"), 1, 2) and join.device_uuid == second.device_uuid
    assert world.newcomers == [None], "it stays with the coordinator"
    settings = world.link.settings
    assert (settings.uplink.bits_per_second, settings.downlink.bits_per_second) == (0.0, 0.0) and world.link.closed
    assert isinstance(evaluator, Evaluator)
    blob_id = evaluator.blobs.put_bytes(b"x")
    assert evaluator.blobs.path(blob_id).is_relative_to(world.options.state / "blobs")
    models = evaluator.make_model_evaluator(WELCOME)
    assert len(models.test) == 8 and len(models.train) == 8 and models.source.targets == WELCOME.targets


@pytest.mark.parametrize(("allowed", "called"), [("", ""), ("other:score", ""), ("own:score", "own:score")])
async def test_an_evaluator_calls_no_code_that_it_did_not_allow(world: World, allowed: str, called: str) -> None:
    world.description = replace(world.description, task_options={"metric": "own:score"})
    await run_evaluator(replace(world.options, metric=allowed))
    models = world.member.worker.make_model_evaluator(WELCOME)
    assert models.source.options.metric == called
    assert any("join with --metric own:score" in line for line in world.said) == (not called)


async def test_an_evaluators_name_is_checked_first(world: World) -> None:
    with pytest.raises(ConfigError, match="evaluator name 'E V'"):
        await run_evaluator(replace(world.options, name="E V"))
    assert FakeLink.made == []


async def test_a_process_touches_its_alive_file_while_it_runs(world: World, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    options = replace(world.options, alive=alive)

    async def run(self: FakeConnection) -> str:
        self.made.append(self)
        self.link.heard_s = asyncio.get_running_loop().time()
        while not alive.exists():  # noqa: ASYNC110, the file is touched in a thread
            await asyncio.sleep(0.001)
        return "over"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeConnection, "run", run)
        assert await asyncio.wait_for(run_device(options, LIMITS), 20.0) == "over"


async def test_rows_of_a_device_are_its_own_part(world: World) -> None:
    data = replace(world.options.data, shard=(1, 2), partition="iid")
    await run_device(replace(world.options, data=data), LIMITS)
    profile = world.member.joins[0].profile
    assert profile is not None and profile.num_examples == 4
    rows = world.member.worker.make_trainer(WELCOME).rows
    assert isinstance(rows, Rows) and len(rows) == 4
