import pytest

from fedcore.core.config.address import check_address
from fedcore.core.errors import ConfigError


@pytest.mark.parametrize("text", ["localhost:1", "10.0.0.1:65535", "[::1]:8443", "edge.example:443"])
def test_an_address_is_kept_as_it_is(text: str) -> None:
    assert check_address(text, "here", example="a:1") == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "host", ":80", "host:", "host:0", "host:65536", "host:-1", "host:http", "a b:1", "a,b:1", "host:²"),
        *("::1:9", "http://host:80", "[]:8", "[::1:9", "fe80::1]:9"),
    ],
)
def test_anything_else_is_named_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_address(text, "upstream", example="coord.example:8443")
    assert str(caught.value) == f"upstream: expected HOST:PORT, for example coord.example:8443, got {text!r}"


def test_port_0_is_for_listening_alone() -> None:
    assert check_address("127.0.0.1:0", "listen", example="0.0.0.0:1", any_port=True) == "127.0.0.1:0"
