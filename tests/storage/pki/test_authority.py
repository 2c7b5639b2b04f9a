"""The authority's folder: what it makes, keeps and refuses to overwrite."""

import datetime
import stat
from pathlib import Path

import pytest

from fedcore.core.errors import CertificateError
from fedcore.storage.pki.authority import CRL, create_authority, issue, load_signer, utc_now
from fedcore.storage.pki.authority_record import RECORD, record_transaction
from fedcore.storage.pki.certificates import load_material, read_identity


def test_files_are_private(folder: Path, issued_once: Path) -> None:
    for key in ("ca.key", "main.key", "agx-0.key"):
        assert stat.S_IMODE((folder / key).stat().st_mode) == 0o600
    assert stat.S_IMODE(issued_once.stat().st_mode) == 0o700


def test_nothing_is_overwritten_without_force(folder: Path) -> None:
    before = (folder / "agx-0.key").read_bytes()
    with pytest.raises(CertificateError, match=r"agx-0\.key exists already.*--force"):
        issue(folder, "agx-0", kind="device")
    with pytest.raises(CertificateError, match=r"ca\.key exists already"):
        create_authority(folder)
    assert (folder / "agx-0.key").read_bytes() == before
    issue(folder, "agx-0", kind="device", force=True)
    assert (folder / "agx-0.key").read_bytes() != before
    assert load_material(folder, "agx-0")


@pytest.mark.parametrize("host", ["", "a:443", "http://a", "a..b", "-a", "a" * 64, "ü"])
def test_bad_hosts_are_refused_and_leave_nothing(folder: Path, host: str) -> None:
    with pytest.raises(CertificateError, match="expected a DNS name or an IP address"):
        issue(folder, "two", kind="coordinator", hosts=(host,))
    assert not (folder / "two.key").exists()


def test_a_new_authority_leaves_nothing_of_the_old_one(folder: Path) -> None:
    (folder / CRL).write_text("an old list")
    old = load_signer(folder).certificate
    assert create_authority(folder, force=True) == folder / "ca.pem"
    assert load_signer(folder).certificate != old
    assert not (folder / RECORD).exists() and not (folder / CRL).exists()


def test_every_issued_certificate_is_on_record(folder: Path) -> None:
    path = issue(folder, "north", kind="edge")
    with record_transaction(folder) as record:
        issued = record.certificates()
    assert [str(each.identity) for each in issued] == ["coordinator:main", "device:agx-0", "edge:north"]
    assert issued[-1].serial == read_identity(path.read_bytes()).serial
    assert (issued[-1].note, issued[-1].revoked_s) == ("", None)


def test_a_signer_needs_a_private_key(folder: Path) -> None:
    (folder / "ca.key").chmod(0o644)
    with pytest.raises(CertificateError, match=r"ca\.key may be read by others \(mode 0644\)"):
        load_signer(folder)
    (folder / "ca.key").unlink()
    with pytest.raises(CertificateError, match=r"ca\.key is missing"):
        issue(folder, "south", kind="edge")


def test_the_time_is_in_utc() -> None:
    assert utc_now().utcoffset() == datetime.timedelta(0)
