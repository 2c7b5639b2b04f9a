"""fedcore certs: what it issues, what it keeps, and its list."""

import stat
from pathlib import Path

from cryptography import x509

from fedcore.storage.pki.authority_record import RECORD
from fedcore.storage.pki.certificates import load_material, read_identity
from tests.cli.conftest import Fedcore


def test_an_edge_has_a_certificate_of_its_own_kind_and_hosts(fedcore: Fedcore, tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    said = fedcore("certs", folder, "--device", "cam-1", "--edge", "north", "--host", "edge.example")
    assert [line.rpartition("/")[2] for line in said.out.splitlines()] == [
        "ca.pem",
        "coordinator.pem",
        "cam-1.pem",
        "north.pem",
    ]
    hosts = {
        name: x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())
        .extensions.get_extension_for_class(x509.SubjectAlternativeName)
        .value.get_values_for_type(x509.DNSName)
        for name in ("coordinator", "north")
    }
    assert hosts == {"coordinator": ["localhost"], "north": ["localhost", "edge.example"]}
    assert str(read_identity(load_material(folder, "north", kinds=("edge",)).certificate)) == "edge:north"
    before = (folder / "coordinator.pem").read_bytes()
    assert fedcore("certs", folder, "--edge", "south", "--host", "south.example").code == 0
    assert (folder / "coordinator.pem").read_bytes() == before, "hosts of an edge are none of the coordinator's"


def test_certificates_are_issued_once_and_named(fedcore: Fedcore, tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    said = fedcore("certs", folder, "--host", "coord.example", "--device", "cam-1", "--class", "jetson")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == [
        f"made the authority {folder / 'ca.pem'}",
        f"issued {folder / 'coordinator.pem'}",
        f"issued {folder / 'cam-1.pem'}",
        f"issued {folder / 'jetson.pem'}",
    ]
    names = {"coordinator": "coordinator:coordinator", "cam-1": "device:cam-1", "jetson": "class:jetson"}
    for name, identity in names.items():
        assert str(read_identity(load_material(folder, name).certificate)) == identity
        assert stat.S_IMODE((folder / f"{name}.key").stat().st_mode) == 0o600
    again = fedcore("certs", folder)
    assert again.code == 1 and "has an authority already; say what to issue" in again.err
    twice = fedcore("certs", folder, "--device", "cam-1")
    assert twice.code == 1 and "replace it with --force" in twice.err
    assert fedcore("certs", folder, "--device", "cam-1", "--force").code == 0


def test_certs_that_run_again_make_only_what_is_missing(fedcore: Fedcore, tmp_path: Path) -> None:
    words = ("certs", tmp_path / "tls", "--host", "coord.example", "--class", "nx", "--missing")
    assert [line.split()[0] for line in fedcore(*words).out.splitlines()] == ["made", "issued", "issued"]
    before = {path.name: path.read_bytes() for path in (tmp_path / "tls").iterdir()}
    del before[RECORD]  # grows with every certificate
    again = fedcore(*words)
    assert (again.code, again.out) == (0, "")
    assert fedcore(*words, "--class", "tx2").out.endswith("tx2.pem\n")
    after = {path.name: path.read_bytes() for path in (tmp_path / "tls").iterdir()}
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {RECORD, "tx2.pem", "tx2.key"}
    (tmp_path / "tls" / "tx2.pem").unlink()  # killed between its two files: the key alone is worth nothing
    assert fedcore(*words, "--class", "tx2").code == 0
    assert load_material(tmp_path / "tls", "tx2")


def test_a_list_says_what_is_in_force_and_what_is_revoked(fedcore: Fedcore, tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    fedcore("certs", folder, "--device", "cam-1")
    assert fedcore("revoke", folder, "cam-1").code == 0
    coordinator, camera = (line.split("  ") for line in fedcore("certs", folder, "--list").out.splitlines())
    assert coordinator[1] == "coordinator:coordinator" and coordinator[2].startswith("until 20")
    assert camera[1] == "device:cam-1" and camera[2].startswith("revoked 20")
    assert len(camera[0]) == 40 and int(camera[0], 16) > 0


def test_missing_and_force_contradict_each_other(fedcore: Fedcore, tmp_path: Path) -> None:
    said = fedcore("certs", tmp_path / "certs", "--missing", "--force")
    assert said.code == 1 and "--missing keeps certificates that exist, --force replaces them" in said.err
    assert not (tmp_path / "certs").exists()
