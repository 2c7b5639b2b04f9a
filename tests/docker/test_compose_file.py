"""docker-compose.yml without an engine: confined services, one key ring each, and the run's file beside it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedcore.core.config.toml import parse_config
from fedcore.core.contract.protocols import Json

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Json] = COMPOSE["services"]
OURS = {name: each for name, each in SERVICES.items() if "build" in each}
CLASSES = ("agx", "nx", "tx2")
STAYING = ("coordinator", "edge-a", "edge-b", *CLASSES, "evaluator")
CONFIG = parse_config((ROOT / "examples" / "compose.toml").read_text())


def mounts(service: Json) -> dict[str, str]:
    """Volume or folder of a service by where it is seen."""
    found: dict[str, str] = {}
    for text in service.get("volumes", ()):
        parts = re.sub(r"\$\{[^}]*\}", "VARIABLE", text).split(":")
        found[parts[1]] = parts[0]
    return found


def flag(service: Json, name: str) -> str:
    """Value of --name=value in a command."""
    (value,) = (word.removeprefix(f"--{name}=") for word in service["command"] if word.startswith(f"--{name}="))
    return str(value)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] and service["tmpfs"] == ["/tmp"] and service["init"]
    assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "devices", "pid", "ipc", "userns_mode"} & set(service)
    # The only root hands out keys: it may change owners, and has no network.
    root = str(service.get("user", "")).startswith("0")
    assert root == (name == "certs") and service.get("cap_add", []) == (["CHOWN"] if root else [])
    assert (service.get("network_mode") == "none") == root


def test_the_images_run_as_nobody_special() -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    users = re.findall(r"^USER (\S+)", dockerfile, re.MULTILINE)
    assert users == ["fedcore"] and "--uid 10001" in dockerfile
    assert "chown 10001:10001" in (ROOT / "docker" / "certs.sh").read_text()


def test_every_volume_is_declared_and_used() -> None:
    used = {source for service in SERVICES.values() for source in mounts(service).values()}
    assert {each for each in used if not each.startswith(("VARIABLE", "."))} == set(COMPOSE["volumes"])


def test_the_authority_s_key_is_seen_by_the_init_service_alone() -> None:
    assert [name for name, each in SERVICES.items() if "authority" in mounts(each).values()] == ["certs"]


@pytest.mark.parametrize("name", STAYING)
def test_everybody_has_a_key_ring_of_its_own(name: str) -> None:
    assert mounts(SERVICES[name])["/certs"] == f"certs-{name}" == mounts(SERVICES["certs"])[f"/handed/{name}"]
    assert [each for each in SERVICES if f"certs-{name}" in mounts(SERVICES[each]).values()] == ["certs", name]


@pytest.mark.parametrize("name", STAYING)
def test_who_stays_is_watched_and_ends_with_the_run(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"][:3] == ["CMD", "fedcore", "health"]
    assert service["restart"].startswith("on-failure"), "exit code 0 is the end of the run"


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_is_limited_scaled_and_known_to_the_run(name: str) -> None:
    service = SERVICES[name]
    assert flag(service, "class") == flag(service, "identity") == name
    assert (flag(service, "name"), flag(service, "shard")) == ("auto", "auto")
    assert service["cpus"] > 0 and service["mem_limit"] and "container_name" not in service
    (configured,) = (each for each in CONFIG.classes if each.name == name)
    assert service["scale"] == configured.count


def test_the_run_fits_its_fleet() -> None:
    devices = sum(SERVICES[name]["scale"] for name in CLASSES)
    assert devices == CONFIG.coordinator.min_devices == 6
    assert CONFIG.data.shards >= devices + 18, "room for --scale nx=20"
    assert CONFIG.coordinator.listen.endswith(":8443")
    for name in CLASSES:
        assert float(flag(SERVICES[name], "test-fraction")) == CONFIG.data.test_fraction
    assert float(flag(SERVICES["evaluator"], "test-fraction")) == CONFIG.data.test_fraction


def test_whoever_is_waited_for_exists_and_can_be() -> None:
    for name, service in SERVICES.items():
        waits: Any = service.get("depends_on", {})
        for other, how in waits.items() if isinstance(waits, dict) else ():
            condition = how["condition"]
            assert other in SERVICES, name
            assert condition != "service_healthy" or "healthcheck" in SERVICES[other], (name, other)
            assert condition != "service_completed_successfully" or "restart" not in SERVICES[other], (name, other)


def test_what_the_images_copy_is_in_the_build_s_context() -> None:
    kept = (ROOT / ".dockerignore").read_text().splitlines()
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "docker" / "Dockerfile").read_text(), re.MULTILINE):
        for source in sources.split():
            if source != ".":
                assert f"!{source.rstrip('*')}" in kept, source
                assert source.endswith("*") or (ROOT / source).is_file()
    packages = re.findall(r"^root_packages = \[(.*)\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0]
    assert {f"!{name}" for name in re.findall(r'"(\w+)"', packages)} <= set(kept)
