"""Check that a port is free before anything depends on it."""

import socket


def check_free(where: str) -> None:
    """Raise OSError, OverflowError or ValueError where a server cannot listen on HOST:PORT `where`.

    One usable address of the host is enough, as it is for servers: "localhost" may also have an address of a family
    that this machine lacks. The check frees the port again at once, so another process may still take it first.
    """
    host, _, port = where.rpartition(":")
    addresses = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM)
    for left, (family, kind, _, _, address) in zip(reversed(range(len(addresses))), addresses, strict=True):
        try:
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a port in TIME_WAIT counts
                probe.bind((address[0], int(port), *address[2:]))
                probe.listen()
            return
        except OSError:
            if not left:
                raise
