"""Whether a port can be listened on, asked before anything depends on it."""

import socket


def check_free(where: str) -> None:
    """Raise OSError, OverflowError or ValueError where HOST:PORT `where` cannot be listened on.

    One address of a host's is enough, as it is for servers: "localhost" may have one of a family this machine lacks.
    The port is free again at once: somebody else may still be quicker.
    """
    host, _, port = where.rpartition(":")
    found = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM)
    for left, (family, kind, _, _, address) in zip(reversed(range(len(found))), found, strict=True):
        try:
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a port just left is free
                probe.bind((address[0], int(port), *address[2:]))
                probe.listen()
            return
        except OSError:
            if not left:
                raise
