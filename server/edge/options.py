"""What an edge is started with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedcore.storage.pki.certificates import TlsMaterial


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeOptions:
    """Who an edge is, where it listens, and whom it reports to.

    `upstream`: HOST:PORT of tiers above, one or more, best first. `listen`: HOST:PORT, port 0 picks a free one.
    `advertise`: the HOST:PORT that newcomers are sent to; None is the address it listens on, "" tells nobody.
    `tls` is shown to devices as a server and to the tier above as a client; None goes without TLS. `state`: folder of
    its blobs, its spool and edge.json. `reconnect_s`: how long it tries to come back to a tier above. `metrics`:
    HOST:PORT of a Prometheus endpoint, "" for none. `say` tells people.
    """

    name: str
    upstream: tuple[str, ...]
    listen: str
    advertise: str | None
    tls: TlsMaterial | None
    state: Path
    reconnect_s: float
    metrics: str
    say: Callable[[str], None]
