"""fedcore flower: what the command line makes of its options."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.cli.conftest import Fedcore


@pytest.fixture
def calls(place: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, SimpleNamespace]]:
    """Apps that were served or joined, with their options; none of them runs."""
    seen: list[tuple[object, SimpleNamespace]] = []

    async def run(app: object, options: SimpleNamespace) -> str:
        seen.append((app, options))
        return "the run has finished"

    def module(name: str, **members: object) -> None:
        stand_in = ModuleType(name)
        for member, value in members.items():
            setattr(stand_in, member, value)
        monkeypatch.setitem(sys.modules, name, stand_in)

    def options(**values: object) -> SimpleNamespace:
        return SimpleNamespace(**values)

    module(
        "fedcore.server.flower.load",
        load_server_app=lambda folder: f"server app of {folder}",
        run_config=lambda folder, changes: {"changes": changes},
    )
    module("fedcore.server.flower.serve", AppOptions=options, serve_app=run)
    module(
        "fedcore.client.flower.load",
        load_client_app=lambda folder: f"client app of {folder}",
        node_config=lambda text: {"text": text},
    )
    module("fedcore.client.flower.join", AppDeviceOptions=options, join_app=run)
    return seen


def test_a_server_app_is_served(fedcore: Fedcore, calls: list[tuple[object, SimpleNamespace]]) -> None:
    said = fedcore("flower", "serve", "app", "--insecure", "--run-config", "rounds=3", "--lease-s", "5")
    assert (said.code, said.out) == (0, "run folder: runs/flower\nthe app has finished\n")
    ((app, options),) = calls
    assert app == "server app of app"
    assert (options.folder, options.listen) == (Path("runs/flower"), "127.0.0.1:0")
    assert (options.run_config, options.lease_s, options.deadline_s) == ({"changes": "rounds=3"}, 5.0, 3600.0)
    assert options.tls is None and options.certs is None


@pytest.mark.parametrize("option", ["--lease-s", "--deadline-s"])
@pytest.mark.parametrize("value", ["0", "-1", "inf", "nan"])
def test_a_time_must_be_above_0_and_finite(
    fedcore: Fedcore, calls: list[tuple[object, SimpleNamespace]], option: str, value: str
) -> None:
    said = fedcore("flower", "serve", "app", "--insecure", f"{option}={value}")
    assert said.code == 1
    assert said.err == f"error: {option}: expected a number of seconds above 0, got {float(value)}\n"
    assert calls == []


def test_a_client_app_joins(place: Path, fedcore: Fedcore, calls: list[tuple[object, SimpleNamespace]]) -> None:
    words = ("--name", "cam-1", "--insecure", "--node-config", "partition-id=0", "--reconnect-s", "9")
    said = fedcore("flower", "join", "b:2,a:1", "app", *words)
    assert (said.code, said.out) == (0, "cam-1: the run has finished\n")
    ((app, options),) = calls
    assert app == "client app of app"
    assert (options.targets, options.name, options.device_class) == (("b:2", "a:1"), "cam-1", "default")
    assert options.state == place / "home" / ".fedcore" / "cam-1"
    assert (options.node_config, options.reconnect_s) == ({"text": "partition-id=0"}, 9.0)
