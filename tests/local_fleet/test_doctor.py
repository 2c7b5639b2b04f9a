import socket
from pathlib import Path

import pytest

from fedcore.local_fleet import doctor
from fedcore.local_fleet.doctor import Finding, examine


def findings(listen: str = "127.0.0.1:0") -> dict[str, Finding]:
    return {each.check: each for each in examine(listen)}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("FEDCORE_CACHE", str(tmp_path / "not" / "yet"))
    return tmp_path


def test_this_machine_is_fit(cache: Path) -> None:
    found = findings()
    assert list(found) == ["python", "coordinator packages", "device packages", "cores", "memory", "cache", "port"]
    assert all(each.ok for each in found.values())
    assert "numpy " in found["coordinator packages"].detail
    assert found["memory"].detail.endswith(" GiB")
    assert found["cache"].detail.startswith(f"{cache}/not/yet, ")
    assert not (cache / "not").exists()  # looking makes nothing


def test_missing_packages_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NEEDED", ("numpy", "no-such-package-a", "no-such-package-b"))
    found = findings()["coordinator packages"]
    assert found == Finding(
        "coordinator packages", False, "missing no-such-package-a, no-such-package-b; run: pip install ."
    )


def test_a_coordinator_needs_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CLIENT", ("no-such-package",))
    found = findings()["device packages"]
    assert found.ok and found.detail == (
        "missing no-such-package; run: pip install '.[client]' (needed on devices only)"
    )


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 1 << 62)
    found = findings()["cache"]
    assert not found.ok and found.detail.endswith("free some, or set FEDCORE_CACHE to another folder")


def test_a_cache_below_a_file_cannot_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEDCORE_CACHE", str(tmp_path / "file" / "cache"))
    found = findings()["cache"]
    assert not found.ok and "cannot write there: set FEDCORE_CACHE" in found.detail


def test_a_port_in_use_is_told() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        listen = f"127.0.0.1:{held.getsockname()[1]}"
        found = findings(listen)["port"]
    assert not found.ok and found.detail.startswith(f"{listen}: ")
    assert found.detail.endswith("choose another with --set coordinator.listen=HOST:PORT")
    assert findings(listen)["port"] == Finding("port", True, f"{listen} can be listened on")


@pytest.mark.parametrize(
    "listen", ["127.0.0.1", "127.0.0.1:http-ish", "127.0.0.1:70000", "127.0.0.1:-1", "192.0.2.1:0", "", "no host:1"]
)
def test_what_cannot_be_listened_on_is_told(listen: str) -> None:
    found = findings(listen)["port"]
    assert not found.ok and found.detail.startswith(f"{listen}: ")
