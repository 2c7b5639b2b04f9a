"""The devices behind Flower's nodes: asks new nodes to join, and notices nodes that are gone."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from flwr.app import Message
from flwr.serverapp import Grid

from fedcore.core.errors import FedcoreError, JoinRefused, ProtocolError
from fedcore.protos.records import JOIN
from fedcore.protos.values import Join, Role
from fedcore.server.flower.records import join_content, message_in
from fedcore.server.flower.replies import arrivals
from fedcore.server.flower.round_driver import FlowerDriver

ANSWER_S = 60.0  # for a node's join: it may have to start Python and read its rows
TRIES = 3


@dataclass(slots=True)
class Roster:
    """The nodes of a ServerApp by device. A node that was refused, or stays silent, is not asked again."""

    driver: FlowerDriver
    clock: Callable[[], float] = time.monotonic
    _nodes: dict[str, int] = field(default_factory=dict)  # by device
    _refused: dict[int, str] = field(default_factory=dict)  # node -> reason
    _silences: Counter[int] = field(default_factory=Counter)  # requests to join without an answer, by node

    @property
    def refusal(self) -> str:
        """Reason of the last refusal; empty if there was none."""
        return next(reversed(self._refused.values()), "")

    def node(self, device: str) -> int:
        """Return the node of a device."""
        return self._nodes[device]

    def device(self, node: int) -> str | None:
        """Return the device of a node, None for a node that has not joined."""
        return next((device for device, other in self._nodes.items() if other == node), None)

    def refresh(self, grid: Grid) -> None:
        """Let new nodes join, renew listed devices and drop the others; raises JoinRefused without labels."""
        here = set(grid.get_node_ids())
        new = here - set(self._nodes.values()) - set(self._refused)
        joins = dict(self._request_joins(grid, sorted(new))) if new else {}
        self.driver.skip_time()  # requests take time, and a round may be open already
        for device in [device for device, node in self._nodes.items() if node not in here]:
            self.driver.lost(device, "Flower lists its node no more")
            del self._nodes[device]
        for device in self._nodes:
            self.driver.alive(device)
        if joins:
            self.driver.agree(sorted({label for join in joins.values() for label in join.labels}))
        # By name, so that the order does not depend on Flower's node ids.
        for node in sorted(joins, key=lambda node: joins[node].name):
            self._add(node, joins[node])

    def _request_joins(self, grid: Grid, nodes: list[int]) -> Iterator[tuple[int, Join]]:
        content = join_content(self.driver.description)
        limit_s = min(ANSWER_S, self.driver.run.config.coordinator.join_deadline_s)
        messages = (Message(content, node, JOIN, ttl=limit_s) for node in nodes)
        silent = set(nodes)
        for node, reply in arrivals(grid, messages, self.clock() + limit_s, self.clock):
            silent.discard(node)
            try:
                yield node, _join(reply)
            except FedcoreError as error:
                self._refuse(node, str(error))
        for node in sorted(silent):
            self._silences[node] += 1
            if self._silences[node] >= TRIES:
                self._refuse(node, f"no answer to {TRIES} joins, for {limit_s:g} s each")

    def _add(self, node: int, join: Join) -> None:
        try:
            if join.name in self._nodes:
                raise JoinRefused(f"another node is the device {join.name}; give every node its own name")
            self.driver.join(join)
            self._nodes[join.name] = node
        except FedcoreError as error:
            self._refuse(node, str(error))

    def _refuse(self, node: int, reason: str) -> None:
        self._refused[node] = reason
        self.driver.run.log.event("refused", device=f"node {node}", message=reason)


def _join(reply: Message | None) -> Join:
    if reply is None or reply.has_error():
        raise ProtocolError(f"no join: {reply.error.reason if reply is not None else 'the message could not be sent'}")
    join = message_in(reply.content)
    if not isinstance(join, Join) or join.role is not Role.DEVICE:
        raise ProtocolError(f"expected the join of a device, got {type(join).__name__}")
    return join
