"""Replies one at a time: a Grid's own `send_and_receive` collects all replies of a round in memory."""

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
    """Send messages and yield (node, its reply) as replies come, until `until_s`; None if a message was not sent.

    It keeps only ids: it makes a message, pushes and forgets it, and later pulls the reply by its id.
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
        sleep(min(max(PAUSE_S, now_s - begin_s), until_s - now_s))  # looks take at most half of the time
