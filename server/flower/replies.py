"""Replies one at a time: a Grid's own `send_and_receive` holds all of a round's in memory before it returns."""

import time
from collections.abc import Callable, Iterable, Iterator

from flwr.app import Message
from flwr.serverapp import Grid

PAUSE_S = 0.2  # between two looks for replies; a look asks for every open message


def arrivals(
    grid: Grid,
    messages: Iterable[Message],
    until_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[tuple[int, Message | None]]:
    """Send messages and yield (node, its reply) as replies come, until `until_s`; None where a message was not sent.

    Nothing is held but ids: a message is made, pushed and forgotten, a reply pulled by its id and handed on.
    """
    waiting: dict[str, int] = {}
    for message in messages:
        node = message.metadata.dst_node_id
        pushed = next(iter(grid.push_messages([message])), None)
        if pushed is None:
            yield node, None
        else:
            waiting[pushed] = node
    while waiting:
        begin_s = clock()
        for message_id in list(waiting):
            for reply in grid.pull_messages([message_id]):
                yield waiting.pop(message_id), reply
        now_s = clock()
        if not waiting or now_s >= until_s:
            return
        sleep(min(max(PAUSE_S, now_s - begin_s), until_s - now_s))  # looking takes half of the time at most
