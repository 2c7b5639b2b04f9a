"""Shards for devices without rows of their own: a device requests one of the run's at join, and keeps it.

The ledger stores the holder of every shard, so that replicas never collide, also after a resume. A device is known by
its name; a device that comes back under another name with the same uuid keeps its shard too.
"""

from typing import TypedDict

from fedcore.core.config.tables import Config
from fedcore.core.contract.profile import check_name
from fedcore.core.data.partition import partition_seed
from fedcore.core.errors import JoinRefused
from fedcore.protos.values import Newcomer, Shard
from fedcore.server.run.ledger import Ledger

META = "shards"  # in the ledger: a list of `Holder`, that of shard 1 first


class Holder(TypedDict):
    """The device that has a shard."""

    device: str
    device_class: str
    uuid: str


class Shards:
    """The shards of one run. Use from the worker thread, because it writes to the ledger."""

    def __init__(self, config: Config, ledger: Ledger) -> None:
        """Assign up to `[data] shards` shards, cut as a local fleet with the same seed cuts them."""
        self._config = config
        self._ledger = ledger

    def of(self, newcomer: Newcomer) -> Shard:
        """Return the shard of a device; assign the next free shard to a new device, durably.

        Raises JoinRefused if this run has no shards or none is left, ConfigError for a malformed name.
        """
        check_name(newcomer.name)
        check_name(newcomer.device_class, "device class")
        count = self._config.data.shards
        if not count:
            raise JoinRefused(
                f"{newcomer.name} asks for a shard, and this run hands out none; start the coordinator with "
                "--set data.shards=N, or the device with --shard I/N or rows of its own"
            )
        holders: list[Holder] = self._ledger.get_meta(META) or []
        index = _place(holders, newcomer)
        if index >= count:
            raise JoinRefused(
                f"{newcomer.name} asks for a shard, and all {count} are given, the last one to "
                f"{holders[-1]['device']}; start a device that has one with its own state folder and name, or a new "
                "run with a larger data.shards"
            )
        holder = Holder(device=newcomer.name, device_class=newcomer.device_class, uuid=newcomer.device_uuid)
        if holders[index : index + 1] != [holder]:
            self._ledger.set_meta(META, [*holders[:index], holder, *holders[index + 1 :]])
        data = self._config.data
        return Shard(
            index=index + 1,
            count=count,
            partition=data.partition,
            alpha=data.alpha,
            seed=partition_seed(self._config.run.seed),
        )


def _place(holders: list[Holder], newcomer: Newcomer) -> int:
    """Return the index of a device's shard, from 0: by its name, else by its uuid within its class, else the next."""
    for position, holder in enumerate(holders):
        if holder["device"] == newcomer.name:
            return position
    identity = (newcomer.device_class, newcomer.device_uuid)
    for position, holder in enumerate(holders):
        if newcomer.device_uuid and (holder["device_class"], holder["uuid"]) == identity:
            return position
    return len(holders)
