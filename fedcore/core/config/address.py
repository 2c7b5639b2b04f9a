"""HOST:PORT, as people write it."""

from fedcore.core.errors import ConfigError

MAX_PORT = 65535


def check_address(text: str, where: str, *, example: str, any_port: bool = False) -> str:
    """Return `text` where it is HOST:PORT with a port in [1, 65535], or 0 for any free one where `any_port`.

    An IPv6 address stands in brackets. Raises ConfigError, naming `where` and giving the `example`, for anything else.
    """
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]") if host.startswith("[") and host.endswith("]") else host
    words = not colon or not bare or any(each.isspace() or each in ",/[]" for each in bare)
    words |= ":" in host and bare == host  # an IPv6 address without brackets: its last part is not a port
    if words or not (port.isascii() and port.isdecimal()) or not (0 if any_port else 1) <= int(port) <= MAX_PORT:
        raise ConfigError(f"{where}: expected HOST:PORT, for example {example}, got {text!r}")
    return text
