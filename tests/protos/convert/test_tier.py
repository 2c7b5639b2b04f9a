"""Messages between an edge and the tier above it: what arrives, and what is refused."""

import pytest
from hypothesis import given, settings

from fedcore.core.errors import ProtocolError
from fedcore.protos.convert import tier
from fedcore.protos.tier_values import LeafDismissed, LeafJoin, LeafLeft, LeafRefused, PartialSubmission, RoundShare
from fedcore.protos.v1 import tier_pb2 as pb
from tests.protos.wire_values import DOWNWARD, UPWARD


@given(UPWARD[LeafJoin])
@settings(max_examples=20)
def test_an_edge_presents_a_device_under_its_own_name_only(value: LeafJoin) -> None:
    message = tier.leaf_request_to_pb(value)
    assert tier.leaf_request_from_pb(message) == value
    message.device = value.device + "x"
    with pytest.raises(ProtocolError, match=f"an edge presented device '{value.device}' as device '{value.device}x'"):
        tier.leaf_request_from_pb(message)


@pytest.mark.parametrize(("lost", "revoked"), [(False, False), (True, False), (True, True)])
def test_a_device_leaves_for_one_of_three_reasons(lost: bool, revoked: bool) -> None:
    value = LeafLeft(device="a", lost=lost, revoked=revoked)
    assert tier.leaf_request_from_pb(tier.leaf_request_to_pb(value)) == value


def test_an_answer_keeps_the_class_of_its_error_and_its_session() -> None:
    refused = LeafRefused(device="a", error="JoinRefused", message="another model")
    dismissed = LeafDismissed(device="a", epoch=7, goodbye="the run is over")
    for value in (refused, dismissed):
        assert tier.leaf_response_from_pb(tier.leaf_response_to_pb(value)) == value


def test_an_unknown_kind_names_the_device() -> None:
    with pytest.raises(ProtocolError, match="an edge said something unknown for 'a'; update the coordinator"):
        tier.leaf_request_from_pb(pb.LeafRequest(device="a"))
    with pytest.raises(ProtocolError, match="the tier above said something unknown to 'a'; update the edge"):
        tier.leaf_response_from_pb(pb.LeafResponse(device="a"))


@given(UPWARD[PartialSubmission])
@settings(max_examples=20)
def test_a_partial_has_the_blobs_and_devices_of_its_value(value: PartialSubmission) -> None:
    message = tier.partial_to_pb(value)
    assert message.HasField("partial") == (value.partial is not None)
    assert message.HasField("scores") == (value.scores is not None)
    assert [leaf.device for leaf in message.leaves] == [leaf.device for leaf in value.leaves]


@given(DOWNWARD[RoundShare])
@settings(max_examples=10)
def test_a_share_of_no_known_family_is_refused(value: RoundShare) -> None:
    message = tier.share_to_pb(value)
    assert tier.share_from_pb(message) == value
    message.spec.geometry.family = "mamba"
    with pytest.raises(ProtocolError, match="unknown model family 'mamba'; update the edge"):
        tier.share_from_pb(message)
