"""What third-party libraries are told through the environment: no telemetry, and no spinning threads."""

import os
from collections.abc import MutableMapping

SWITCHES = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def silence_telemetry(environment: MutableMapping[str, str] = os.environ) -> None:
    """Switch off the telemetry of the libraries we use, unless the user has set the variable.

    Call it before importing them: they read their switches at import. Child processes inherit the switches.
    """
    for name, value in SWITCHES.items():
        environment.setdefault(name, value)


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have threads of OpenMP sleep while they wait for each other, unless the user has set how they wait.

    Torch's wait spinning; where another process has one of the cores, that takes a multiple of the time. Call before
    importing torch.
    """
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
