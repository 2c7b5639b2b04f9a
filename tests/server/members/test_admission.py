"""The rules of a join, one by one."""

from dataclasses import replace

import pytest

from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.errors import CertificateError, JoinRefused
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.protos.values import Join, Role
from fedcore.protos.wire import PROTOCOL
from fedcore.server.members.admission import check_identity, check_labels, check_model, check_protocol
from fedcore.storage.pki.certificates import Identity, Kind

MARK = Fingerprint(tensors="a" * 64, config="b" * 64, tokenizer="c" * 64)
JOIN = Join(
    protocol_min=PROTOCOL,
    protocol_max=PROTOCOL,
    role=Role.DEVICE,
    name="agx-0",
    device_uuid="uuid",
    epoch=1,
    profile=DeviceProfile(name="agx-0", device_class="agx", num_examples=1),
    fingerprint=MARK,
    max_length=64,
    labels=("no", "yes"),
)
EVALUATOR = replace(JOIN, role=Role.EVALUATOR, name="eval", profile=None)


@pytest.mark.parametrize(("low", "high"), [(1, 1), (0, 1), (1, 5), (0, 9)])
def test_any_range_that_holds_our_protocol_will_do(low: int, high: int) -> None:
    check_protocol(replace(JOIN, protocol_min=low, protocol_max=high))


@pytest.mark.parametrize(("low", "high"), [(2, 3), (0, 0), (3, 1)])
def test_a_range_without_it_is_refused_with_both_sides(low: int, high: int) -> None:
    with pytest.raises(JoinRefused, match=f"agx-0 speaks protocol {low}-{high}, this coordinator {PROTOCOL}; install"):
        check_protocol(replace(JOIN, protocol_min=low, protocol_max=high))


@pytest.mark.parametrize(("kind", "name"), [("device", "agx-0"), ("class", "agx")])
def test_a_certificate_of_the_device_or_its_class_lets_it_in(kind: Kind, name: str) -> None:
    check_identity(JOIN, Identity(kind=kind, name=name))


@pytest.mark.parametrize(
    ("kind", "name"),
    [("device", "agx-1"), ("class", "nx"), ("class", "agx-0"), ("device", "agx"), ("evaluator", "agx-0")],
)
def test_any_other_certificate_keeps_a_device_out(kind: Kind, name: str) -> None:
    with pytest.raises(CertificateError, match=f"certificate for {kind}:{name}, expected class:agx or device:agx-0"):
        check_identity(JOIN, Identity(kind=kind, name=name))


@pytest.mark.parametrize("kind", ["device", "class", "coordinator", "edge"])
def test_an_evaluator_needs_an_evaluators_certificate(kind: Kind) -> None:
    check_identity(EVALUATOR, Identity(kind="evaluator", name="eval"))
    with pytest.raises(CertificateError, match="expected evaluator:eval; issue one with: fedcore certs"):
        check_identity(EVALUATOR, Identity(kind=kind, name="eval"))


def test_without_tls_nobody_has_an_identity() -> None:
    check_identity(JOIN, None)


@pytest.mark.parametrize("part", ["tensors", "config", "tokenizer"])
def test_a_difference_of_the_base_model_names_both_hashes(part: str) -> None:
    check_model(JOIN, MARK, 64)
    ours = getattr(MARK, part)[:16]
    with pytest.raises(JoinRefused, match=f"{part} {ours} here, {'d' * 16} there"):
        check_model(replace(JOIN, fingerprint=replace(MARK, **{part: "d" * 64})), MARK, 64)


def test_another_length_is_refused_with_both() -> None:
    with pytest.raises(JoinRefused, match="agx-0 cuts texts at 64 tokens, this run at 32"):
        check_model(JOIN, MARK, 32)


@pytest.mark.parametrize("labels", [(), ("yes",), ("no",), ("no", "yes"), ("yes", "no")])
def test_some_of_the_agreed_labels_are_enough(labels: tuple[str, ...]) -> None:
    check_labels(replace(JOIN, labels=labels), ("no", "yes", "maybe"))


def test_a_foreign_label_is_named_and_long_ones_are_cut() -> None:
    with pytest.raises(JoinRefused, match=r"rows labelled \['maybe'\], outside the agreed labels \['no', 'yes'\]"):
        check_labels(replace(JOIN, labels=("no", "maybe")), ("no", "yes"))
    texts = tuple(f"{number} " + "a whole text " * 100 for number in range(50))
    with pytest.raises(JoinRefused) as caught:
        check_labels(replace(JOIN, labels=texts), texts[10:])
    assert len(str(caught.value)) < 1000
