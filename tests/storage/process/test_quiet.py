from fedcore.storage.process.quiet import silence_telemetry


def test_switches_are_set_unless_the_user_did() -> None:
    environment = {"HF_HUB_DISABLE_TELEMETRY": "0", "PATH": "x"}
    silence_telemetry(environment)
    assert environment == {
        "PATH": "x",
        "HF_HUB_DISABLE_TELEMETRY": "0",
        "DO_NOT_TRACK": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
