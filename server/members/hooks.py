"""What one kind of parent adds to the membership that all parents share: its answers and its event handlers."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from fedcore.core.errors import FedcoreError
from fedcore.core.text_enum import TextEnum
from fedcore.protos.tier_values import AnyUpward
from fedcore.protos.values import Join, Newcomer, RunDescription, Welcome
from fedcore.server.members.sessions import AnySession, Session
from fedcore.storage.pki.revocation import RevocationList


class Cause(TextEnum):
    """Why a session ended."""

    LEFT = "left"  # its stream closed, its lease ran out, or the edge above it left
    REVOKED = "revoked"  # its certificate was revoked
    REPLACED = "replaced"  # a newer session of its name was admitted
    DISMISSED = "dismissed"  # the tier above ended it, so it needs no report


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """The end of a session. `lost`: the device will not finish its assignment."""

    cause: Cause
    lost: bool = False


def _ignore(*_: object) -> None:
    pass


def _without_edges(joining: Coroutine[Any, Any, None]) -> None:
    joining.close()
    raise RuntimeError("a device joined below an edge; a parent that admits edges must give `spawn`")


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipHooks:
    """The callables of one parent. All run on the event loop; only `describe` and `admit` may wait, and may raise.

    `describe` returns what a newcomer must know (with the shard that it requests), and the blobs that it will fetch:
    bytes by blob id. `admit` decides about a newcomer, or asks the tier above, and returns its welcome, without a
    session token. `withdrawn` is called for a newcomer that was admitted and then got no session after all, `refused`
    for one that may not join. Between `arrived` and the one `departed` of a session, `alive` is called for every
    message and every chunk of an upload, and `message` for every message that is not about membership. `evicted` is
    called before `departed` if the certificate of the session was revoked.
    """

    describe: Callable[[Newcomer], Awaitable[tuple[RunDescription, Mapping[str, int]]]]
    admit: Callable[[Join], Awaitable[Welcome]]
    arrived: Callable[[AnySession], None]
    departed: Callable[[AnySession, Departure], None]
    alive: Callable[[Session], None]
    message: Callable[[Session, AnyUpward], None]
    evicted: Callable[[AnySession], None]
    revocations_refused: Callable[[str], None]  # with the reason why a list of revoked certificates is unusable
    revocations_changed: Callable[[RevocationList], None] = _ignore  # with the list in force from now on
    withdrawn: Callable[[Join], None] = _ignore
    refused: Callable[[str, FedcoreError], None] = _ignore  # by name
    spawn: Callable[[Coroutine[Any, Any, None]], None] = _without_edges  # runs the join of a device below an edge
