"""The text form of an address, HOST:PORT."""

from fedcore.core.errors import ConfigError

MAX_PORT = 65535


def check_address(text: str, where: str, *, example: str, any_port: bool = False) -> str:
    """Return `text` where it is HOST:PORT with a port in [1, 65535], or 0 for any free one where `any_port`.

    An IPv6 address stands in brackets. Raises ConfigError, naming `where` and giving the `example`, for any other text.
    """
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]") if host.startswith("[") and host.endswith("]") else host
    malformed = not colon or not bare or any(character.isspace() or character in ",/[]" for character in bare)
    malformed |= ":" in host and bare == host  # an IPv6 address without brackets: its last part is not a port
    if malformed or not (port.isascii() and port.isdecimal()) or not (0 if any_port else 1) <= int(port) <= MAX_PORT:
        raise ConfigError(f"{where}: expected HOST:PORT, for example {example}, got {text!r}")
    return text
