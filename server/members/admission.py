"""Rules for newcomers, with a message for every refusal; and the label list, which the first newcomer may set."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.errors import CertificateError, JoinRefused
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.core.tasks.table import task_named
from fedcore.protos.values import Join, Role, RunDescription
from fedcore.protos.wire import PROTOCOL
from fedcore.storage.pki.certificates import Identity


class Admission:
    """The rules of one run for its members. Lives on the event loop.

    `on_labels` is called once with the label list, before the first device is admitted; the list comes from the
    configuration, or else from the rows of the first newcomer. After that, `check_profile` is called for every device;
    it raises JoinRefused for a device that cannot take part.
    """

    def __init__(
        self,
        description: RunDescription,
        *,
        on_labels: Callable[[tuple[str, ...]], Awaitable[None]],
        check_profile: Callable[[DeviceProfile], None],
    ) -> None:
        """Begin with the labels of the description, if there are any."""
        self.description = description
        self._on_labels = on_labels
        self._check_profile = check_profile
        self._lock = asyncio.Lock()
        self._fixed = False
        self._labelled = task_named(description.task).labelled

    @property
    def needs_no_device(self) -> bool:
        """Whether the label list is known before any device: the configuration names it, or the task has no labels."""
        return bool(self.description.labels) or not self._labelled

    async def check(self, join: Join) -> None:
        """Raise JoinRefused if a newcomer does not fit the run. An edge always fits, because it has no model."""
        if join.role is Role.EDGE:
            return
        check_model(join, self.description.fingerprint, self.description.max_length)
        await self.fix_labels(self.description.labels or tuple(sorted(join.labels)))
        check_labels(join, self.description.labels)
        if join.profile is not None:
            self._check_profile(join.profile)

    async def fix_labels(self, labels: tuple[str, ...]) -> None:
        """Fix the label list of the run unless it is fixed already; raises JoinRefused for fewer than two labels."""
        async with self._lock:
            if self._fixed:
                return
            if self._labelled and len(labels) < 2:
                raise JoinRefused(
                    f"the first shard has only the labels {list(labels)}, and the run names none; "
                    'start the coordinator with --set \'data.labels=["a", "b"]\''
                )
            await self._on_labels(labels)
            self.description = replace(self.description, labels=labels)
            self._fixed = True


def check_protocol(join: Join) -> None:
    """Raise JoinRefused unless both sides speak a common protocol version."""
    if not join.protocol_min <= PROTOCOL <= join.protocol_max:
        raise JoinRefused(
            f"{join.name} speaks protocol {join.protocol_min}-{join.protocol_max}, this coordinator {PROTOCOL}; "
            "install the same fedcore version on both sides"
        )


def check_identity(join: Join, identity: Identity | None) -> None:
    """Raise CertificateError unless the peer's certificate names this device, its class, the evaluator or the edge.

    `identity` is None if the coordinator runs without TLS.
    """
    if join.role is Role.DEVICE:
        check_device(join.name, join.profile.device_class if join.profile else "", identity)
    else:
        _check_named(join.name, {(str(join.role), join.name)}, identity)


def check_device(name: str, device_class: str, identity: Identity | None) -> None:
    """Raise CertificateError unless the certificate names the device `name` or its class; None means no TLS."""
    _check_named(name, {("device", name), ("class", device_class)}, identity)


def check_model(join: Join, fingerprint: Fingerprint, max_length: int) -> None:
    """Raise JoinRefused, naming both hashes, if base model, tokenizer or length differ."""
    difference = fingerprint.difference(join.fingerprint)
    if difference:
        raise JoinRefused(
            f"{join.name} has another base model: {difference}; "
            "use the coordinator's model folder, or join without --model to fetch it"
        )
    if join.max_length != max_length:
        raise JoinRefused(f"{join.name} cuts texts at {join.max_length} tokens, this run at {max_length}")


def check_labels(join: Join, labels: tuple[str, ...]) -> None:
    """Raise JoinRefused if a device has rows with a label outside the agreed list."""
    foreign = sorted(set(join.labels) - set(labels))
    if foreign:
        raise JoinRefused(
            f"{join.name} has rows labelled {_some(foreign, 3)}, outside the agreed labels {_some(labels, 10)}; "
            "correct the rows, or start the run with [data] labels that include them"
        )


def _check_named(name: str, allowed: set[tuple[str, str]], identity: Identity | None) -> None:
    if identity is None or (identity.kind, identity.name) in allowed:
        return
    expected = " or ".join(f"{kind}:{allowed_name}" for kind, allowed_name in sorted(allowed))
    raise CertificateError(
        f"{name} came with a certificate for {identity.kind}:{identity.name}, expected {expected}; "
        "issue one with: fedcore certs FOLDER --device NAME (or --class, --evaluator, --edge)"
    )


def _some(labels: Sequence[str], count: int) -> list[str]:
    """Return the first few labels, cut: if the configuration names the wrong column, labels are whole texts."""
    return [label[:40] for label in labels[:count]]
