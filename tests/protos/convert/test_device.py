import math

import pytest
from hypothesis import given, settings

from fedcore.core.errors import ConfigError, ProtocolError
from fedcore.protos.convert.device import (
    describe_request,
    description_from_pb,
    description_to_pb,
    join_from_pb,
    join_to_pb,
    newcomer_from_pb,
)
from fedcore.protos.v1 import device_pb2 as pb
from fedcore.protos.values import Join, Newcomer, Role, RunDescription
from tests.protos.wire_values import DESCRIPTIONS, JOINS, NEWCOMERS

PROFILE = pb.DeviceProfile(name="nx-0", device_class="nx", num_examples=5, slowdown=1.0)


@given(DESCRIPTIONS)
@settings(max_examples=40)
def test_a_run_s_description_arrives_whole(value: RunDescription) -> None:
    data = description_to_pb(value).SerializeToString()
    assert description_from_pb(pb.DescribeRunResponse.FromString(data)) == value


@given(NEWCOMERS)
def test_the_question_names_the_newcomer(value: Newcomer) -> None:
    data = describe_request(value).SerializeToString()
    assert newcomer_from_pb(pb.DescribeRunRequest.FromString(data)) == value


def test_a_question_may_be_empty() -> None:
    assert describe_request(Newcomer()).SerializeToString() == b""


@given(JOINS)
@settings(max_examples=40)
def test_a_role_has_its_own_number(value: Join) -> None:
    assert (
        join_to_pb(value).role
        == {Role.DEVICE: pb.ROLE_DEVICE, Role.EVALUATOR: pb.ROLE_EVALUATOR, Role.EDGE: pb.ROLE_EDGE}[value.role]
    )


@pytest.mark.parametrize("role", [pb.ROLE_UNSPECIFIED, 17])
def test_an_unknown_role_is_refused_by_name(role: int) -> None:
    message = pb.JoinRequest(role=role, profile=PROFILE)  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match=f"join of 'nx-0': unknown role {role}; update the client"):
        join_from_pb(message)


def test_an_evaluator_needs_only_a_name() -> None:
    message = pb.JoinRequest(role=pb.ROLE_EVALUATOR, profile=pb.DeviceProfile(name="evaluator"))
    assert join_from_pb(message).profile is None and join_from_pb(message).name == "evaluator"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "NX"}, "device name 'NX'"),
        ({"device_class": ""}, "device class ''"),
        ({"num_examples": 0}, "has no training row"),
        ({"slowdown": 0.0}, "slowdown must be a number of at least 1"),
        ({"slowdown": math.nan}, "slowdown must be a number of at least 1"),
        ({"memory_mb": -1.0}, "memory_mb must be a number of at least 0"),
        ({"uplink_mbps": math.inf}, "uplink_mbps must be a number of at least 0"),
    ],
)
def test_a_profile_out_of_range_is_refused(change: dict[str, float | str], message: str) -> None:
    profile = pb.DeviceProfile()
    profile.CopyFrom(PROFILE)
    for key, value in change.items():
        setattr(profile, key, value)
    with pytest.raises(ConfigError, match=message):
        join_from_pb(pb.JoinRequest(role=pb.ROLE_DEVICE, profile=profile))
