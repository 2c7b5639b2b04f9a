"""Open a port, with or without TLS."""

import grpc

from fedcore.core.errors import RunError
from fedcore.storage.pki.certificates import TlsMaterial


async def listen(
    server: grpc.aio.Server, where: str, tls: TlsMaterial | None, *, remedy: str, ask_certificate: bool = True
) -> str:
    """Start `server` on HOST:PORT `where` (port 0: any free port) and return its address.

    With TLS, clients need a certificate of the same authority, unless `ask_certificate` is False. Raises RunError,
    naming the `remedy`, if the port is not available.
    """
    try:
        if tls is None:
            port = server.add_insecure_port(where)
        else:
            trusted = tls.ca if ask_certificate else None
            credentials = grpc.ssl_server_credentials(
                [(tls.key, tls.certificate)], trusted, require_client_auth=ask_certificate
            )
            port = server.add_secure_port(where, credentials)
    except RuntimeError:
        raise RunError(
            f"cannot listen on {where}: the port is in use or the address is not this machine's; {remedy}"
        ) from None
    await server.start()
    return f"{where.rpartition(':')[0]}:{port}"
