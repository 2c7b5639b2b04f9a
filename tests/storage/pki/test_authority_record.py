"""The authority's record: one transaction at a time, durable or undone."""

import datetime
from pathlib import Path

import pytest

from fedcore.core.errors import CertificateError
from fedcore.storage.pki.authority import create_authority, issue
from fedcore.storage.pki.authority_record import RECORD, SCHEMA_VERSION, TokenEntry, record_transaction
from fedcore.storage.pki.certificates import Identity, load_material
from fedcore.storage.pki.tokens import make_tokens

DAY = datetime.timedelta(days=1)
CAM = Identity(kind="device", name="cam-1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_authority(tmp_path / "certs")
    return tmp_path / "certs"


def test_a_damaged_record_is_named(folder: Path) -> None:
    (folder / RECORD).write_bytes(b"not a database, whatever one makes of it" * 100)
    with pytest.raises(CertificateError, match=r"authority\.sqlite: file is not a database"):
        make_tokens(folder, CAM, valid=DAY)


def test_certificates_of_folders_older_than_the_record_are_taken_in(folder: Path) -> None:
    issue(folder, "old", kind="device")
    issue(folder, "main", kind="coordinator")
    (folder / "stray.pem").write_text("hello")
    (folder / RECORD).unlink()
    with record_transaction(folder) as record:
        assert {str(each.identity) for each in record.certificates()} == {"device:old", "coordinator:main"}
    assert load_material(folder, "old")


def entry(**changes: object) -> TokenEntry:
    values = {"id": "a" * 16, "digest": b"d", "identity": CAM, "hosts": (), "expires_s": 100.0, "serial": None}
    return TokenEntry(**(values | changes))  # type: ignore[arg-type]


def test_a_block_that_raises_leaves_the_record_as_it_was(folder: Path) -> None:
    with pytest.raises(ValueError, match="stop"), record_transaction(folder) as record:
        record.add_token(entry())
        raise ValueError("stop")
    with record_transaction(folder) as record:
        assert record.token("a" * 16) is None


def test_a_token_is_found_again_as_it_was_added(folder: Path) -> None:
    token = entry(hosts=("edge.example", "192.0.2.7"))
    with record_transaction(folder) as record:
        record.add_token(token)
    with record_transaction(folder) as record:
        assert record.token(token.id) == token
        assert record.open_tokens(99.9) == record.open_tokens(99.9, CAM) == (token,)
        assert record.open_tokens(100.0) == ()
        assert record.open_tokens(0.0, Identity(kind="class", name="cam-1")) == ()


def test_a_used_token_keeps_its_first_certificate(folder: Path) -> None:
    with record_transaction(folder) as record:
        record.add_token(entry())
    serials = [read_serial(folder, name) for name in ("one", "two")]
    with record_transaction(folder) as record:
        for serial in serials:
            record.use_token("a" * 16, serial)
        record.withdraw_token("a" * 16)
        assert record.token("a" * 16) == entry(serial=serials[0])
        assert record.open_tokens(0.0) == ()


def test_a_token_that_is_withdrawn_is_unknown(folder: Path) -> None:
    with record_transaction(folder) as record:
        record.add_token(entry())
        record.withdraw_token("a" * 16)
        assert record.token("a" * 16) is None


def test_the_first_revocation_counts(folder: Path) -> None:
    serial = read_serial(folder, "cam-1")
    with record_transaction(folder) as record:
        record.revoke(serial, 5.0)
        record.revoke(serial, 9.0)
        issued = record.certificate(serial)
    assert issued is not None and issued.revoked_s == 5.0
    with record_transaction(folder) as record:
        assert record.certificate(serial + 1) is None


def test_numbers_of_lists_rise_and_follow_the_clock(folder: Path) -> None:
    with record_transaction(folder) as record:
        assert [record.next_list(now_s) for now_s in (0.0, 0.0, 1000.7, 3.0)] == [1, 2, 1000, 1001]


def test_a_record_of_a_later_version_is_refused(folder: Path) -> None:
    with record_transaction(folder) as record:
        record._sql.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(CertificateError, match="has schema 2, this fedcore knows 1"), record_transaction(folder):
        pass


def read_serial(folder: Path, name: str) -> int:
    issue(folder, name, kind="device")
    with record_transaction(folder) as record:
        return record.certificates()[-1].serial
