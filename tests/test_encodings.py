"""Text files are UTF-8 whatever the locale says: whoever opens one in the product names its encoding."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("fedcore", "server", "client", "strategies", "protos", "benchmarks", "examples", "docker")
TEXT_METHODS = {"read_text": 0, "write_text": 1}  # where the encoding stands without its name
TEXT_STREAMS = ("TextIOWrapper",)


def opened_without_encoding(tree: ast.Module) -> Iterator[int]:
    """Lines of calls that take the locale's encoding."""
    return (node.lineno for node in ast.walk(tree) if isinstance(node, ast.Call) and _takes_the_locales(node))


def _takes_the_locales(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    words = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in words or None in words:
        return False
    if name in TEXT_METHODS:
        return isinstance(call.func, ast.Attribute) and len(call.args) <= TEXT_METHODS[name]
    if name in ("open", "fdopen"):
        return _is_text(call, words)
    if name in ("run", "Popen", "check_output"):
        return bool({"text", "universal_newlines"} & set(words))
    if name in ("NamedTemporaryFile", "TemporaryFile"):
        return "b" not in _mode(words.get("mode"), "w+b")
    return name in TEXT_STREAMS


def _is_text(call: ast.Call, words: dict[str | None, ast.expr]) -> bool:
    """Whether a call of something named `open` opens a text file: by its mode, a string of the letters of modes."""
    modes = [words["mode"]] if "mode" in words else call.args
    said = [each.value for each in modes if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    mode = next((each for each in said if each and set(each) <= set("rwaxbt+")), None)
    if mode is not None:
        return "b" not in mode
    builtin_or_path = isinstance(call.func, ast.Name) or (not call.args and not words)
    return builtin_or_path or bool(words.keys() & {"newline", "errors"})


def _mode(said: ast.expr | None, usual: str) -> str:
    return said.value if isinstance(said, ast.Constant) and isinstance(said.value, str) else usual


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_text_file_is_opened_as_utf_8(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "_pb2" not in path.name
        for line in opened_without_encoding(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("p.read_text()", True),
        ("p.read_text('utf-8')", False),
        ("p.write_text(t)", True),
        ("p.write_text(t, encoding='utf-8')", False),
        ("p.open()", True),
        ("p.open('w', newline='')", True),
        ("p.open('rb')", False),
        ("open(p, 'a')", True),
        ("open(p)", True),
        ("open(p, mode='rb')", False),
        ("os.fdopen(d, 'wb')", False),
        ("os.fdopen(d, 'w')", True),
        ("Ledger.open(p)", False),
        ("run(c, text=True)", True),
        ("run(c, text=True, encoding='utf-8')", False),
        ("TextIOWrapper(b)", True),
        ("NamedTemporaryFile('w')", False),  # a mode without its name is rare enough
        ("NamedTemporaryFile(mode='w')", True),
    ],
)
def test_the_rule_sees_what_takes_the_locales_encoding(code: str, found: bool) -> None:
    assert bool(list(opened_without_encoding(ast.parse(code)))) is found
