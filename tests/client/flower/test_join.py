"""A device process of a Flower app: what it joins with, and what it closes."""

from pathlib import Path
from typing import Any

import pytest
from flwr.clientapp import ClientApp

import fedcore.client.flower.join as module
from fedcore.client.device.state import StateFolder
from fedcore.client.flower.agent import AppAgent
from fedcore.client.flower.join import AppDeviceOptions, join_app
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.errors import JoinRefused
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.protos.values import Join, Role
from fedcore.protos.wire import PROTOCOL
from tests.client.device.test_run import FakeConnection, FakeLink

APP = ClientApp()


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AppDeviceOptions:
    FakeLink.made, FakeConnection.made = [], []
    monkeypatch.setattr(FakeConnection, "fault", None)
    monkeypatch.setattr(FakeConnection, "welcomes", True)
    monkeypatch.setattr(module, "Link", FakeLink)
    monkeypatch.setattr(module, "ParentConnection", FakeConnection)
    said: list[str] = []
    return AppDeviceOptions(
        targets=("a:1", "b:2"),
        name="cam",
        state=tmp_path / "state",
        tls=None,
        say=said.append,
        device_class="nx",
        node_config={"partition-id": 2},
        reconnect_s=9.0,
    )


async def test_a_device_joins_an_app_with_its_name_alone(options: AppDeviceOptions) -> None:
    assert await join_app(APP, options) == "the run is finished"
    (member,), uuid = FakeConnection.made, StateFolder.open(options.state).uuid()
    expected = Join(
        protocol_min=PROTOCOL,
        protocol_max=PROTOCOL,
        role=Role.DEVICE,
        name="cam",
        device_uuid=uuid,
        epoch=1,
        profile=DeviceProfile(name="cam", device_class="nx", num_examples=1),
        fingerprint=Fingerprint(tensors="", config="", tokenizer=""),
        max_length=0,
        labels=(),
    )
    assert member.joins[0] == expected and member.joins[1].epoch == 2 and member.reconnect_s == 9.0


async def test_the_apps_messages_go_to_its_agent(options: AppDeviceOptions) -> None:
    await join_app(APP, options)
    (member,), (link,) = FakeConnection.made, FakeLink.made
    agent: Any = member.worker
    assert isinstance(agent, AppAgent) and member.on_message.__self__ is agent  # type: ignore[attr-defined]
    assert (agent.name, agent.app, agent.node_config) == ("cam", APP, {"partition-id": 2})
    assert link.settings.targets == ("a:1", "b:2") and link.settings.uplink.bits_per_second == 0.0
    assert agent._worker._shutdown and link.closed


async def test_a_refused_join_closes_what_was_opened(
    options: AppDeviceOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeConnection, "fault", JoinRefused("this coordinator serves no app"))
    with pytest.raises(JoinRefused, match="serves no app"):
        await join_app(APP, options)
    assert FakeLink.made[0].closed and FakeConnection.made[0].worker._worker._shutdown
