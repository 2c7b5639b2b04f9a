"""Which list is in force: the newest good one that has been seen, whatever becomes of the file."""

import datetime
from pathlib import Path

import pytest

from fedcore.core.errors import CertificateError
from fedcore.server.members.revocation_watch import RevocationWatch
from fedcore.server.members.sessions import Session
from fedcore.storage.pki.authority import CRL
from fedcore.storage.pki.certificates import Identity, read_identity
from fedcore.storage.pki.revocation import revoke
from tests.server.authority import make_authority
from tests.server.members.test_admission import JOIN


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    return make_authority(tmp_path / "certs", ("cam-1", "device"), ("cam-2", "device"))


def watch_of(certs: Path, file: Path | None = None) -> RevocationWatch:
    return RevocationWatch((certs / "ca.pem").read_bytes(), file or certs / CRL)


def identity(certs: Path, name: str) -> Identity:
    return read_identity((certs / f"{name}.pem").read_bytes())


def test_a_list_is_in_force_from_the_moment_it_is_seen(certs: Path) -> None:
    watch = watch_of(certs)
    assert not watch.refresh() and watch.current.number == 0
    watch.check(identity(certs, "cam-1"))
    watch.check(None)
    revoke(certs, "cam-1")
    assert watch.refresh() and not watch.refresh()
    watch.check(identity(certs, "cam-2"))
    with pytest.raises(CertificateError, match="device:cam-1"):
        watch.check(identity(certs, "cam-1"))
    revoke(certs, "cam-2")
    assert watch.refresh() and len(watch.current.revoked) == 2


@pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN X509 CRL-----\n"])
def test_a_damaged_file_is_told_once_and_the_last_good_list_stays(certs: Path, content: bytes) -> None:
    revoke(certs, "cam-1")
    watch = watch_of(certs)
    watch.refresh()
    good = (certs / CRL).read_bytes()
    (certs / CRL).write_bytes(content)
    with pytest.raises(CertificateError, match=rf"{CRL}: not an X\.509 revocation list"):
        watch.refresh()
    assert not watch.refresh(), "once"
    with pytest.raises(CertificateError, match="was revoked"):
        watch.check(identity(certs, "cam-1"))
    (certs / CRL).write_bytes(good)
    assert not watch.refresh(), "the same list"
    revoke(certs, "cam-2")
    assert watch.refresh()


def test_a_file_that_is_gone_frees_nobody(certs: Path) -> None:
    revoke(certs, "cam-1")
    watch = watch_of(certs)
    watch.refresh()
    (certs / CRL).unlink()
    assert not watch.refresh()
    with pytest.raises(CertificateError, match="was revoked"):
        watch.check(identity(certs, "cam-1"))


def test_an_older_list_put_back_frees_nobody(certs: Path) -> None:
    revoke(certs, "cam-1")
    older = (certs / CRL).read_bytes()
    revoke(certs, "cam-2")
    watch = watch_of(certs)
    watch.refresh()
    (certs / CRL).write_bytes(older)
    with pytest.raises(CertificateError, match=r"has number \d+, older than \d+, which stays in force"):
        watch.refresh()
    assert len(watch.current.revoked) == 2


def test_another_authoritys_list_is_not_taken(certs: Path, tmp_path: Path) -> None:
    other = make_authority(tmp_path / "other", ("cam-1", "device"))
    revoke(other, "cam-1")
    watch = watch_of(certs)
    with pytest.raises(CertificateError, match="not signed by this authority"):
        watch.install((other / CRL).read_bytes())
    assert watch.current.number == 0 and not (certs / CRL).exists()


def test_what_comes_from_above_is_kept_for_the_next_start(certs: Path, tmp_path: Path) -> None:
    revoke(certs, "cam-1")
    above = watch_of(certs)
    above.refresh()
    kept = tmp_path / "state.pem"
    edge = watch_of(certs, kept)
    assert edge.install(above.current.der) and not edge.install(above.current.der)
    assert not edge.refresh(), "what it has written itself is no news"
    again = watch_of(certs, kept)
    assert again.refresh() and again.current == above.current


def test_without_tls_there_is_nothing_to_watch(certs: Path) -> None:
    revoke(certs, "cam-1")
    watch = RevocationWatch()
    assert not watch.refresh() and not watch.install((certs / CRL).read_bytes())
    watch.check(identity(certs, "cam-1"))


def test_sessions_are_told_apart_by_their_certificate(certs: Path) -> None:
    revoke(certs, "cam-1")
    watch = watch_of(certs)
    watch.refresh()
    here = [Session(JOIN, identity=identity(certs, name)) for name in ("cam-1", "cam-2")] + [Session(JOIN)]
    ((found, fault),) = watch.revoked(here)
    assert found is here[0] and f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m}" in str(fault)
