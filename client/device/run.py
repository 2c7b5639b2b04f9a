"""A device or evaluator process: assemble it, keep it in the run to its end, close what was opened."""

import asyncio
import contextlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fedcore.client.data.label_doubts import target_doubts
from fedcore.client.data.rows import Rows, own_labels
from fedcore.client.data.shards import (
    check_rows_fit,
    device_rows,
    given_rows,
    replayed_texts,
    shard_given,
    test_rows,
    training_rows,
    with_task_found,
)
from fedcore.client.device.alive import run_with_alive_file
from fedcore.client.device.arrival import arrive
from fedcore.client.device.energy import energy_meter
from fedcore.client.device.libraries import import_libraries
from fedcore.client.device.state import StateFolder
from fedcore.client.evaluation.answer_libraries import left_out
from fedcore.client.options import ClientOptions, DeviceLimits
from fedcore.client.training.slow_cpu import SlowCpu
from fedcore.core.accelerators import AUTO, CPU
from fedcore.core.codec.grammar import PARTS
from fedcore.core.contract.profile import DeviceProfile, SelfMeasurement, check_name
from fedcore.core.precision import FLOAT32
from fedcore.core.tasks.options import TaskOptions
from fedcore.core.tasks.table import task_named
from fedcore.core.tasks.task import Task
from fedcore.protos.values import Join, Newcomer, Role, RunDescription, Welcome
from fedcore.protos.wire import PROTOCOL
from fedcore.storage.blobs.store import BlobStore
from fedcore.storage.models.checkpoint import fingerprint
from fedcore.storage.process.orphan import parent_to_watch
from fedcore.transport.link import Link, LinkSettings
from fedcore.transport.parent_connection import ParentConnection
from fedcore.transport.throttle import Throttle

if TYPE_CHECKING:
    from fedcore.client.device.agent import Agent
    from fedcore.client.evaluation.evaluator import Evaluator
    from fedcore.client.training.trainer import ModelSource

BITS_PER_MEGABIT = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arrival:
    """A run that can be joined: its parent, its description, the folder of its base model."""

    link: Link
    description: RunDescription
    model: Path
    device: str = CPU  # as PyTorch calls it
    precision: str = FLOAT32
    metric: str = ""  # that the run may call here
    texts: Rows | None = None  # general ones of this device

    @property
    def task(self) -> Task:
        """The run's task."""
        return task_named(self.description.task)

    def source(self, welcome: Welcome) -> "ModelSource":
        """Return which model the run trains, and how it is read."""
        from fedcore.client.training.trainer import ModelSource

        return ModelSource(
            folder=self.model,
            labels=welcome.labels,
            head=self.description.head,
            dtype=self.description.dtype,
            max_length=self.description.max_length,
            targets=welcome.targets,
            task=self.task,
            options=TaskOptions.read(self.description.task_options).with_metric(self.metric),
            device=self.device,
            precision=self.precision,
        )


async def run_device(options: ClientOptions, limits: DeviceLimits) -> str:
    """Take part in a run as a device until it is over; return the coordinator's reason for the end."""
    # Before the network is used: the rows may not be readable.
    options = replace(options, data=await asyncio.to_thread(with_task_found, options.data))
    rows = await asyncio.to_thread(device_rows, options.data)
    texts = await asyncio.to_thread(replayed_texts, options.data.replay, task_named(options.data.task))
    profile = _profile(options.name, limits, rows)
    link = _link(options, limits.uplink_mbps, limits.downlink_mbps)
    state = StateFolder.open(options.state)
    newcomer = Newcomer(
        name=options.name,
        device_class=limits.device_class,
        needs_model=options.model is None,
        wants_shard=options.data.ask_shard,
        device_uuid=state.uuid() if options.data.ask_shard else "",
    )
    try:
        description, model = await arrive(link, options, newcomer)
        task = task_named(description.task)
        check_rows_fit(task, options.data)
        for doubt in target_doubts(task, rows.labels, options.data.label, part=True):
            options.say(f"warning: {doubt}")
        if options.data.ask_shard:
            shard = shard_given(description.shard)
            options.say(f"its rows are shard {shard.index} of {shard.count}")
            rows = await asyncio.to_thread(given_rows, options.data, rows, shard)
        rows = rows.under(description.labels)
        profile = _profile(options.name, limits, rows, task.counts(rows.labels))
        arrival = _Arrival(link=link, description=description, model=model, texts=texts)
        return await _join_as_device(options, profile, rows, state, arrival, limits.memory_sharers)
    finally:
        await link.close()


def _profile(
    name: str, limits: DeviceLimits, rows: Rows, label_counts: tuple[tuple[str, int], ...] = ()
) -> DeviceProfile:
    return DeviceProfile(
        name=name,
        device_class=limits.device_class,
        num_examples=len(rows),
        memory_mb=limits.memory_mb,
        slowdown=limits.slowdown,
        uplink_mbps=limits.uplink_mbps,
        downlink_mbps=limits.downlink_mbps,
        label_counts=label_counts,
        network=limits.network,
        codecs=PARTS,
    )


async def run_evaluator(options: ClientOptions) -> str:
    """Take part in a run as its evaluator until it is over; return the coordinator's reason for the end."""
    check_name(options.name, "evaluator name")
    options = replace(options, data=await asyncio.to_thread(with_task_found, options.data))
    test = await asyncio.to_thread(test_rows, options.data)
    train = await asyncio.to_thread(training_rows, options.data)
    link = _link(options, 0.0, 0.0)
    try:
        description, model = await arrive(link, options)
        check_rows_fit(task_named(description.task), options.data)
        test = test.under(description.labels)
        asked = TaskOptions.read(description.task_options).metric
        if asked != options.metric:
            options.say(f"warning: {_refused_metric(asked, options.metric)}")
        for line in left_out(task_named(description.task), TaskOptions.read(description.task_options)):
            options.say(f"warning: {line}")
        arrival = _Arrival(link=link, description=description, model=model, metric=options.metric)
        return await _join_as_evaluator(options, test, train, arrival)
    finally:
        await link.close()


def _refused_metric(asked: str, allowed: str) -> str:
    if not asked:
        return f"--metric {allowed}: the run asks for no metric of your own; set task.metric"
    return f"the run's metric {asked!r} is not called here: it is code; to allow it, join with --metric {asked}"


async def _join_as_device(
    options: ClientOptions,
    profile: DeviceProfile,
    rows: Rows,
    state: StateFolder,
    arrival: _Arrival,
    memory_sharers: int,
) -> str:
    # Imported here: torch takes seconds, and a wrong address or a missing row is reported without it.
    await asyncio.to_thread(import_libraries)
    from fedcore.client.device.agent import Agent
    from fedcore.client.training.trainer import Trainer
    from fedcore.nn.model.quantized import check_quantizable

    arrival = await _ready(options, arrival, options.precision or arrival.description.precision or AUTO)
    form = arrival.description.form_of(profile.device_class)
    await asyncio.to_thread(check_quantizable, form, arrival.device)
    if memory_sharers:
        profile = replace(profile, memory_mb=_free_memory_mb(options, arrival.device, memory_sharers))
    trial = await _measure(arrival, profile.slowdown)
    precision = "" if arrival.precision == FLOAT32 else arrival.precision  # as earlier versions say it
    profile = replace(profile, trial=trial, precision=precision)
    join = await _join(
        options.name,
        arrival,
        role=Role.DEVICE,
        labels=own_labels(rows, arrival.task),
        profile=profile,
    )

    def make_trainer(welcome: Welcome) -> Trainer:
        return Trainer(arrival.source(welcome), rows, SlowCpu(profile.slowdown), say=options.say, texts=arrival.texts)

    agent = Agent(
        name=options.name,
        link=arrival.link,
        state=state,
        make_trainer=make_trainer,
        num_examples=len(rows),
        memory_mb=profile.memory_mb,
        say=options.say,
        energy=await asyncio.to_thread(partial(energy_meter, arrival.device, shared=parent_to_watch() is not None)),
    )
    return await _stay(options, arrival.link, state, join, agent)


def _free_memory_mb(options: ClientOptions, device: str, sharers: int) -> float:
    """Return the MiB that training may take of what is free on the device, and say them."""
    from fedcore.nn.accelerator.memory import MIB, training_memory_mb

    budget_mb, memory = training_memory_mb(device, sharers)
    share = f", shared by {sharers}" if sharers > 1 else ""
    options.say(
        f"memory for training: {budget_mb:.0f} MiB, of {memory.free / MIB:.0f} free of {memory.total / MIB:.0f} MiB "
        f"on {device}{share}"
    )
    return budget_mb


async def _ready(options: ClientOptions, arrival: _Arrival, precision: str = FLOAT32) -> _Arrival:
    """Return the arrival with the accelerator that this process takes and its precision, and say which ones.

    Raises ConfigError where it is not there and ModelError where the model cannot be loaded: before the join, because
    such a device would fail in every round.
    """
    from fedcore.nn.accelerator.precision import precision_for
    from fedcore.nn.accelerator.present import device_for
    from fedcore.nn.training.trial_load import check_loadable

    device = await asyncio.to_thread(device_for, options.device)
    precision = precision_for(precision, device)
    if device != CPU or precision != FLOAT32:
        options.say(f"runs on {device}, in {precision}")
    description = arrival.description
    await asyncio.to_thread(
        check_loadable,
        arrival.model,
        labels=description.labels,
        head=description.head,
        dtype=description.dtype,
        task=description.task,
    )
    return replace(arrival, device=device, precision=precision)


async def _measure(arrival: _Arrival, slowdown: float) -> SelfMeasurement:
    """Measure this device, so that its first round need not find out how fast it is, and what its memory holds.

    The downlink is known where the base model came over it.
    """
    from fedcore.nn.training.self_measurement import training_gflops
    from fedcore.nn.training.trial_load import LoadTrial, memory_scale

    description = arrival.description
    gflops = await asyncio.to_thread(
        training_gflops,
        arrival.model,
        dtype=description.dtype,
        max_length=description.max_length,
        device=arrival.device,
        precision=arrival.precision,
    )
    trial = LoadTrial(
        folder=arrival.model,
        labels=description.labels,
        head=description.head,
        dtype=description.dtype,
        task=description.task,
        device=arrival.device,
        precision=arrival.precision,
    )
    scale = await asyncio.to_thread(memory_scale, trial, description.max_length)
    return SelfMeasurement(gflops=gflops / slowdown, downlink_mbps=arrival.link.downlink_mbps, memory_scale=scale)


async def _join_as_evaluator(options: ClientOptions, test: Rows, train: Rows, arrival: _Arrival) -> str:
    await asyncio.to_thread(import_libraries)
    from fedcore.client.evaluation.evaluator import Evaluator
    from fedcore.client.evaluation.model_evaluator import ModelEvaluator

    arrival = await _ready(options, arrival)
    join = await _join(options.name, arrival, role=Role.EVALUATOR, labels=own_labels(test, arrival.task))

    def make_model_evaluator(welcome: Welcome) -> ModelEvaluator:
        return ModelEvaluator(source=arrival.source(welcome), test=test, train=train)

    evaluator = Evaluator(
        name=options.name,
        link=arrival.link,
        blobs=BlobStore(options.state / "blobs"),
        make_model_evaluator=make_model_evaluator,
        say=options.say,
    )
    return await _stay(options, arrival.link, StateFolder.open(options.state), join, evaluator)


async def _join(
    name: str, arrival: _Arrival, *, role: Role, labels: tuple[str, ...], profile: DeviceProfile | None = None
) -> Join:
    """Return what every join of this process says; `_stay` fills in the identity, the session and the keep-set."""
    return Join(
        protocol_min=PROTOCOL,
        protocol_max=PROTOCOL,
        role=role,
        name=name,
        device_uuid="",
        epoch=0,
        profile=profile,
        fingerprint=await asyncio.to_thread(fingerprint, arrival.model),
        max_length=arrival.description.max_length,
        labels=labels,
    )


async def _stay(options: ClientOptions, link: Link, state: StateFolder, join: Join, worker: "Agent | Evaluator") -> str:
    """Stay in the run to its end, in one session after the other; return the coordinator's reason for the end."""

    async def make_join() -> Join:
        uuid, epoch = state.identity()
        keep_set = state.keep_set()  # an evaluator never has one
        return replace(join, device_uuid=uuid, epoch=epoch, keep_set="" if keep_set is None else keep_set.blob_id)

    connection = ParentConnection(
        link=link,
        make_join=make_join,
        on_welcome=worker.welcome,
        on_message=worker.message,
        on_lost=worker.session_lost,
        say=options.say,
        reconnect_s=options.reconnect_s,
    )
    try:
        return await run_with_alive_file(connection.run(), link, options.alive)
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await worker.close()


def _link(options: ClientOptions, uplink_mbps: float, downlink_mbps: float) -> Link:
    return Link(
        LinkSettings(
            targets=options.targets,
            tls=options.tls,
            uplink=Throttle(uplink_mbps * BITS_PER_MEGABIT),
            downlink=Throttle(downlink_mbps * BITS_PER_MEGABIT),
        )
    )
