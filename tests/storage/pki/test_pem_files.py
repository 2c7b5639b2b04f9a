"""PEM files: private keys, whole files, and errors that name the file and the remedy."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fedcore.core.errors import CertificateError
from fedcore.storage.pki.certificates import load_material
from fedcore.storage.pki.pem_files import check_vacant, key_pem, load_key, make_private_folder, write_new


def test_a_readable_key_is_refused_with_the_remedy(folder: Path) -> None:
    (folder / "agx-0.key").chmod(0o640)
    with pytest.raises(CertificateError, match=r"mode 0640.*chmod 600 .*agx-0\.key"):
        load_material(folder, "agx-0")


@pytest.mark.parametrize("name", ["ca.pem", "agx-0.pem", "agx-0.key"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CertificateError, match=rf"{name} is missing"):
        load_material(folder, "agx-0")


@pytest.mark.parametrize("name", ["ca.pem", "agx-0.pem", "agx-0.key"])
def test_a_file_that_is_not_pem_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("hello")
    with pytest.raises(CertificateError, match=rf"{name} is not"):
        load_material(folder, "agx-0")


def test_a_new_file_has_its_mode_and_is_never_overwritten(tmp_path: Path) -> None:
    write_new(tmp_path / "a.key", b"secret", mode=0o600)
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "a.key", b"other", mode=0o600)
    assert (tmp_path / "a.key").read_bytes() == b"secret"


@pytest.mark.parametrize("suffix", ["key", "pem"])
def test_half_a_pair_is_not_vacant(tmp_path: Path, suffix: str) -> None:
    check_vacant(tmp_path, "a")
    (tmp_path / f"a.{suffix}").touch()
    with pytest.raises(CertificateError, match=rf"a\.{suffix} exists already; .*--force"):
        check_vacant(tmp_path, "a")


def test_only_an_unencrypted_ec_key_is_loaded(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "ec").write_bytes(key_pem(key))
    assert load_key(tmp_path / "ec").private_numbers() == key.private_numbers()
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    (tmp_path / "encrypted").write_bytes(encrypted)
    pem = rsa.generate_private_key(65537, 1024).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "rsa").write_bytes(pem)
    for name in ("encrypted", "rsa"):
        with pytest.raises(CertificateError, match="is not an unencrypted EC key in PEM form"):
            load_key(tmp_path / name)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CertificateError, match="file/certs: cannot be made: Not a directory"):
        make_private_folder(tmp_path / "file" / "certs")
    make_private_folder(tmp_path / "new")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
