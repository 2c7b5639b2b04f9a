"""The libraries that devices need and a coordinator does not."""

import importlib.util

from fedcore.core.errors import ConfigError

CLIENT_MODULES = ("torch", "transformers", "peft", "datasets", "pyarrow")


def missing_client_modules() -> list[str]:
    """Return the CLIENT_MODULES that are not installed, without importing any."""
    return [name for name in CLIENT_MODULES if importlib.util.find_spec(name) is None]


def require_client(what: str) -> None:
    """Raise ConfigError, naming what is missing and the remedy, unless every client library is installed."""
    missing = missing_client_modules()
    if missing:
        raise ConfigError(f"{what} needs {', '.join(missing)}; install fedcore[client]: pip install 'fedcore[client]'")
