"""A port is free where one address of the host can be listened on."""

import socket
from typing import Any

import pytest

from fedcore.storage.process.free_port import check_free


def test_a_taken_port_is_told_and_a_free_one_is_left_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match="in use"):
            check_free(where)
    check_free(where)
    check_free(where)


def test_an_address_of_a_family_that_is_not_here_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    here = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))
    elsewhere = (
        socket.AF_INET,
        socket.SOCK_STREAM,
        0,
        "",
        ("192.0.2.1", 0),
    )  # reserved for documents: no machine has it
    found: list[Any] = [elsewhere, here]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    check_free("localhost:0")
    found.remove(here)
    with pytest.raises(OSError, match="assign requested address"):
        check_free("localhost:0")
