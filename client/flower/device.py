"""The device behind a Flower node: what it says when it joins, and its trainer.

The training code is the one every device runs (`fedcore.client.training.trainer`), the model stays warm from message to
message where Flower keeps the process: in its simulation, not on a SuperNode.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

from fedcore.client.data.rows import Rows, own_labels
from fedcore.client.data.shards import device_rows, replayed_texts
from fedcore.client.flower.settings import NodeSettings
from fedcore.client.options import DataOptions
from fedcore.client.training.slow_cpu import SlowCpu
from fedcore.core.accelerators import CPU
from fedcore.core.codec.grammar import PARTS
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.precision import AUTO, FLOAT32
from fedcore.core.tasks.table import task_named
from fedcore.protos.values import Join, Role, RunDescription
from fedcore.protos.wire import PROTOCOL
from fedcore.storage.models.checkpoint import fingerprint
from fedcore.storage.models.model_source import model_folder

if TYPE_CHECKING:
    from fedcore.client.training.trainer import ModelSource, Trainer

SHARDS = 256  # of rows, kept by a process that is many nodes in turn


def join_of(settings: NodeSettings, description: RunDescription) -> Join:
    """Return what a device says of itself."""
    rows = rows_of(settings.data).under(description.labels)
    limits, task = settings.limits, task_named(description.task)
    texts_of(settings.data.replay, settings.data.task)  # not to be read is a mistake now
    _, precision = device_and_precision(settings, description)
    return Join(
        protocol_min=PROTOCOL,
        protocol_max=PROTOCOL,
        role=Role.DEVICE,
        name=settings.name,
        device_uuid=settings.name,
        epoch=1,
        profile=DeviceProfile(
            name=settings.name,
            device_class=limits.device_class,
            num_examples=len(rows),
            memory_mb=limits.memory_mb,
            slowdown=limits.slowdown,
            label_counts=task.counts(rows.labels),
            codecs=PARTS,
            precision="" if precision == FLOAT32 else precision,  # as earlier versions say it
        ),
        fingerprint=fingerprint(model_folder(settings.model)),
        max_length=description.max_length,
        labels=own_labels(rows, task),
    )


def device_and_precision(settings: NodeSettings, description: RunDescription) -> tuple[str, str]:
    """Return where a node trains, as PyTorch calls it, and in which precision: its own, else that of the run.

    Raises ConfigError where either is not there.
    """
    wanted = settings.precision or description.precision or AUTO
    if settings.device == CPU and wanted in (AUTO, FLOAT32):
        return CPU, FLOAT32
    from fedcore.nn.accelerator.precision import precision_for  # torch takes seconds
    from fedcore.nn.accelerator.present import device_for

    device = device_for(settings.device)
    return device, precision_for(wanted, device)


@lru_cache(SHARDS)
def rows_of(data: DataOptions) -> Rows:
    """Return a node's rows, read once per process."""
    return device_rows(data)


@lru_cache(SHARDS)
def texts_of(replay: str, task: str) -> Rows | None:
    """Return the general texts that a node trains on beside its rows, read once per process; errors as their reader."""
    return replayed_texts(replay, task_named(task))


def warm_trainer(source: "ModelSource", settings: NodeSettings) -> "Trainer":
    """Return a trainer with the node's rows on the process's one warm model."""
    trainer = _trainer(source)
    data = settings.data
    trainer.switch_to(rows_of(data), SlowCpu(settings.limits.slowdown), texts_of(data.replay, data.task))
    return trainer


@lru_cache(1)
def _trainer(source: "ModelSource") -> "Trainer":
    from fedcore.client.training.trainer import Trainer  # torch takes seconds, and a join needs none

    return Trainer(source, Rows(texts=(), labels=()), SlowCpu(1.0))
