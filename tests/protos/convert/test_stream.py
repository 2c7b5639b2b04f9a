from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.errors import ProtocolError
from fedcore.protos.convert.stream import request, request_value, response, response_value
from fedcore.protos.tier_values import AnyDownward, AnyUpward, TierDownward, TierUpward
from fedcore.protos.v1 import fleet_pb2
from fedcore.protos.values import Downward, Upward
from tests.protos.wire_values import DOWNWARD, PARTS, UPWARD, value_classes


def test_every_value_that_travels_is_drawn_below() -> None:
    assert set(UPWARD) == {*get_args(Upward), *get_args(TierUpward)}
    assert set(DOWNWARD) == {*get_args(Downward), *get_args(TierDownward)}
    assert value_classes() == {*UPWARD, *DOWNWARD, *PARTS}


@pytest.mark.parametrize("kind", UPWARD)
def test_what_a_device_says_arrives_as_it_was_said(kind: type) -> None:
    @settings(max_examples=40)
    @given(UPWARD[kind])
    def check(value: AnyUpward) -> None:
        data = request(value).SerializeToString()
        assert request_value(fleet_pb2.ConnectRequest.FromString(data)) == value

    check()


@pytest.mark.parametrize("kind", DOWNWARD)
def test_what_a_coordinator_says_arrives_as_it_was_said(kind: type) -> None:
    @settings(max_examples=40)
    @given(DOWNWARD[kind])
    def check(value: AnyDownward) -> None:
        data = response(value).SerializeToString()
        assert response_value(fleet_pb2.ConnectResponse.FromString(data)) == value

    check()


# Field 99, three bytes long: a kind that only a later version knows.
LATER = b"\x9a\x06\x03abc"


@pytest.mark.parametrize("data", [b"", LATER])
def test_an_unknown_kind_is_a_broken_protocol(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="a device sent a message of an unknown kind; update the coordinator"):
        request_value(fleet_pb2.ConnectRequest.FromString(data))
    with pytest.raises(ProtocolError, match="the coordinator sent a message of an unknown kind; update the client"):
        response_value(fleet_pb2.ConnectResponse.FromString(data))


@given(st.sampled_from([*UPWARD.values()]).flatmap(lambda strategy: strategy))
@settings(max_examples=20)
def test_fields_of_a_later_version_are_passed_over(value: AnyUpward) -> None:
    data = request(value).SerializeToString() + LATER
    assert request_value(fleet_pb2.ConnectRequest.FromString(data)) == value
