"""At the door: whether a newcomer may join this run, and the label list that the first of them may bring."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

from fedcore.core.errors import DataError, JoinRefused
from fedcore.protos.values import Join, Role, RunDescription
from fedcore.server.aggregate.engine import Engine
from fedcore.server.members.admission import check_identity, check_labels, check_model, check_protocol
from fedcore.storage.pki.certificates import Identity


class Reception:
    """Checks joins. The engine is made once the labels are known, by `make_engine` on the worker; then `on_ready`."""

    def __init__(
        self,
        description: RunDescription,
        make_engine: Callable[[tuple[str, ...]], Awaitable[Engine]],
        on_ready: Callable[[], None],
    ) -> None:
        """Begin with the labels the configuration names, if any."""
        self.description = description
        self.engine: Engine | None = None
        self._make_engine = make_engine
        self._on_ready = on_ready
        self._lock = asyncio.Lock()

    @property
    def labels(self) -> tuple[str, ...]:
        """The agreed list; empty until the first shard fixes it."""
        return self.description.labels

    def ready(self) -> Engine:
        """The engine; raises DataError where there are no labels yet."""
        if self.engine is None:
            raise DataError("the run has no label list yet; join a device with labelled rows, or set [data] labels")
        return self.engine

    async def check(self, join: Join, identity: Identity | None, *, presented: bool = False) -> Engine | None:
        """Raise JoinRefused or CertificateError where somebody may not join; None for an edge, which needs no model.

        `presented` by an edge, which has checked the certificate.
        """
        check_protocol(join)
        if not presented:
            check_identity(join, identity)
        if join.role is Role.EDGE:
            return None
        check_model(join, self.description.fingerprint, self.description.max_length)
        if self.engine is None:  # being made, or waiting for the first shard's labels
            await self.fix_labels(self.labels or tuple(sorted(join.labels)))
        check_labels(join, self.labels)
        engine = self.ready()
        if join.profile is not None:
            engine.strategy.admit(join.profile)
        return engine

    async def fix_labels(self, labels: tuple[str, ...]) -> None:
        """Make the engine with these labels unless there is one."""
        async with self._lock:
            if self.engine is not None:
                return
            if len(labels) < 2:
                raise JoinRefused(
                    f"the first shard has only the labels {list(labels)}, and the run names none; "
                    'start the coordinator with --set \'data.labels=["a", "b"]\''
                )
            self.engine = await self._make_engine(labels)
            self.description = dataclasses.replace(self.description, labels=labels)
            self._on_ready()
