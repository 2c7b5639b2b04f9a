"""Whether somebody may join, and the words for why not."""

from collections.abc import Sequence

from fedcore.core.errors import CertificateError, JoinRefused
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.protos.values import Join, Role
from fedcore.protos.wire import PROTOCOL
from fedcore.storage.pki.certificates import Identity


def check_protocol(join: Join) -> None:
    """Raise JoinRefused unless both sides speak a common protocol version."""
    if not join.protocol_min <= PROTOCOL <= join.protocol_max:
        raise JoinRefused(
            f"{join.name} speaks protocol {join.protocol_min}-{join.protocol_max}, this coordinator {PROTOCOL}; "
            "install the same fedcore version on both sides"
        )


def check_identity(join: Join, identity: Identity | None) -> None:
    """Raise CertificateError unless the peer's certificate names this device, its class, the evaluator or the edge.

    `identity` is None where the coordinator runs without TLS.
    """
    if join.role is Role.DEVICE:
        check_device(join.name, join.profile.device_class if join.profile else "", identity)
    else:
        _check_named(join.name, {(str(join.role), join.name)}, identity)


def check_device(name: str, device_class: str, identity: Identity | None) -> None:
    """Raise CertificateError unless the peer's certificate names the device `name` or its class; None is no TLS."""
    _check_named(name, {("device", name), ("class", device_class)}, identity)


def check_model(join: Join, fingerprint: Fingerprint, max_length: int) -> None:
    """Raise JoinRefused where base model, tokenizer or length differ, naming both hashes."""
    difference = fingerprint.difference(join.fingerprint)
    if difference:
        raise JoinRefused(
            f"{join.name} has another base model: {difference}; "
            "use the coordinator's model folder, or join without --model to fetch it"
        )
    if join.max_length != max_length:
        raise JoinRefused(f"{join.name} cuts texts at {join.max_length} tokens, this run at {max_length}")


def check_labels(join: Join, labels: tuple[str, ...]) -> None:
    """Raise JoinRefused where a device's rows carry a label outside the agreed list."""
    foreign = sorted(set(join.labels) - set(labels))
    if foreign:
        raise JoinRefused(
            f"{join.name} has rows labelled {_some(foreign, 3)}, outside the agreed labels {_some(labels, 10)}; "
            "correct the rows, or start the run with [data] labels that include them"
        )


def _check_named(name: str, allowed: set[tuple[str, str]], identity: Identity | None) -> None:
    if identity is None or (identity.kind, identity.name) in allowed:
        return
    wanted = " or ".join(f"{kind}:{named}" for kind, named in sorted(allowed))
    raise CertificateError(
        f"{name} came with a certificate for {identity.kind}:{identity.name}, expected {wanted}; "
        "issue one with: fedcore certs FOLDER --device NAME (or --class, --evaluator, --edge)"
    )


def _some(labels: Sequence[str], count: int) -> list[str]:
    """The first few, cut: where the wrong column was named, labels are whole texts."""
    return [label[:40] for label in labels[:count]]
