"""Whether a port can be listened on, asked before anything depends on it."""

import socket


def check_free(where: str) -> None:
    """Raise OSError, OverflowError or ValueError where HOST:PORT `where` cannot be listened on.

    The port is free again at once: somebody else may still be quicker.
    """
    host, _, port = where.rpartition(":")
    family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a port just left is free
        probe.bind((address[0], int(port), *address[2:]))
        probe.listen()
