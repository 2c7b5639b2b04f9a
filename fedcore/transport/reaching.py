"""What is said where the other side cannot be reached.

Channels go straight to their target, whatever proxy the environment names (`grpc.enable_http_proxy` of
`fedcore.protos.wire.CHANNEL_OPTIONS`): coordinators, edges and devices are addresses of a user's own network, a proxy
for the web stands between the processes of one machine otherwise, and gRPC would not say so. Where a direct connection
fails while one is set, the message says that it was not used.
"""

import ipaddress
import os
from collections.abc import Mapping

import grpc

from fedcore.core.errors import FedcoreError, TransportError
from fedcore.protos.faults import error_of

PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy", "all_proxy")  # in either case


def unreached(message: str, target: str, environment: Mapping[str, str] = os.environ) -> TransportError:
    """Return the error of a HOST:PORT that cannot be reached, with a word on a proxy that the environment names."""
    names = (spelt for name in PROXY_VARIABLES for spelt in (name, name.upper()))
    proxy = next((name for name in names if environment.get(name, "").strip()), None)
    if proxy is None or is_own_machine(target):
        return TransportError(message)
    return TransportError(f"{message} ({proxy} is set, but fedcore goes through no proxy: open the way to {target})")


def fault_error(fault: grpc.aio.AioRpcError, target: str) -> FedcoreError:
    """Return the error that a failed call stands for, as `error_of` does, with a word on a proxy where it fits."""
    error = error_of(fault, target)
    return unreached(str(error), target) if type(error) is TransportError else error


def is_own_machine(target: str) -> bool:
    """Whether a HOST:PORT is this machine by its name or address."""
    host = target.rpartition(":")[0].strip("[]").lower()
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
