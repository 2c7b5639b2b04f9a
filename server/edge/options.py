"""The options of an edge process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedcore.storage.pki.certificates import TlsMaterial


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeOptions:
    """The name of an edge, the address where it listens, and the tier above.

    `upstream`: HOST:PORT of tiers above, one or more, best first. `listen`: HOST:PORT; port 0 picks a free port.
    `advertise`: the HOST:PORT that newcomers are sent to; None means the address where it listens, "" sends no
    newcomers. `tls`: certificate for devices (as a server) and for the tier above (as a client); None means no TLS.
    `state`: folder of its blobs, its spool and edge.json. `reconnect_s`: seconds for which it tries to reconnect to a
    tier above. `metrics`: HOST:PORT of a Prometheus endpoint, "" for none. `say` prints a line for people.
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
