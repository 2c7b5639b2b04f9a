"""A device process of a Flower app: assemble it, keep it in the run to its end, close what was opened."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from flwr.app.user_config import UserConfigValue
from flwr.clientapp import ClientApp

from fedcore.client.device.state import StateFolder
from fedcore.client.flower.agent import AppAgent
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.protos.values import Join, Role
from fedcore.protos.wire import PROTOCOL
from fedcore.storage.pki.certificates import TlsMaterial
from fedcore.transport.link import Link, LinkSettings
from fedcore.transport.parent_connection import ParentConnection
from fedcore.transport.throttle import Throttle


@dataclass(frozen=True, slots=True, kw_only=True)
class AppDeviceOptions:
    """Which device joins which app, and where it keeps its state."""

    targets: tuple[str, ...]
    name: str
    state: Path
    tls: TlsMaterial | None
    say: Callable[[str], None]
    device_class: str = "default"
    node_config: Mapping[str, UserConfigValue] = field(default_factory=dict)
    reconnect_s: float = 300.0


async def join_app(app: ClientApp, options: AppDeviceOptions) -> str:
    """Take part in an app as a device until it is over; return the coordinator's reason for the end.

    Raises TransportError where the coordinator stays unreachable, JoinRefused where it serves no app.
    """
    link = Link(LinkSettings(targets=options.targets, tls=options.tls, uplink=Throttle(0.0), downlink=Throttle(0.0)))
    state = StateFolder.open(options.state)
    agent = AppAgent(
        name=options.name, link=link, state=state, app=app, node_config=options.node_config, say=options.say
    )
    join = Join(
        protocol_min=PROTOCOL,
        protocol_max=PROTOCOL,
        role=Role.DEVICE,
        name=options.name,
        device_uuid="",
        epoch=0,
        profile=DeviceProfile(name=options.name, device_class=options.device_class, num_examples=1),
        fingerprint=Fingerprint(tensors="", config="", tokenizer=""),
        max_length=0,
        labels=(),
    )

    async def make_join() -> Join:
        uuid, epoch = state.identity()
        return replace(join, device_uuid=uuid, epoch=epoch)

    connection = ParentConnection(
        link=link,
        make_join=make_join,
        on_welcome=agent.welcome,
        on_message=agent.message,
        say=options.say,
        reconnect_s=options.reconnect_s,
    )
    try:
        return await connection.run()
    finally:
        await agent.close()
        await link.close()
