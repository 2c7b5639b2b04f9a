"""Values between an edge and the tier above it: the parts that compute something."""

from fedcore.core.model.fingerprint import Fingerprint
from fedcore.protos.tier_values import LeafJoin, LeafOutcome, PartialSubmission, Revocations
from fedcore.protos.values import Join, Role


def test_a_join_is_presented_under_its_own_name() -> None:
    join = Join(
        protocol_min=1,
        protocol_max=1,
        role=Role.DEVICE,
        name="cam-1",
        device_uuid="u",
        epoch=1,
        profile=None,
        fingerprint=Fingerprint(tensors="", config="", tokenizer=""),
        max_length=8,
        labels=(),
    )
    assert LeafJoin(join=join).device == "cam-1"


def test_a_partial_counts_the_devices_inside_in_their_order() -> None:
    leaves = tuple(
        LeafOutcome(device=device, counted=counted, time_s=1.0)
        for device, counted in (("a", True), ("b", False), ("c", True))
    )
    submission = PartialSubmission(round=1, number=1, partial=None, scores=None, leaves=leaves)
    assert submission.counted == ("a", "c")


def test_a_revocation_list_is_not_shown() -> None:
    assert repr(Revocations(crl=b"bytes")) == "Revocations()"
