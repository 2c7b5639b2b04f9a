"""Adapters for Flower: our strategies in its ServerApps, and its ServerApps over our coordinator.

Only this package of `server` needs the extra `flower`.
"""

from importlib.util import find_spec

from fedcore.core.errors import ConfigError
from fedcore.storage.process.quiet import silence_telemetry

silence_telemetry()  # flwr reads its switches at import
if find_spec("flwr") is None:
    raise ConfigError("Flower is not installed; add it with: pip install 'fedcore[flower]'")
