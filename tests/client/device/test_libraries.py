from pathlib import Path

import pytest

from fedcore.client.device import libraries
from fedcore.client.device.libraries import import_libraries
from fedcore.core.errors import ConfigError

BROKEN = {
    "raise ValueError('could not convert string to float: abc')": "could not convert string to float: abc",
    "raise OSError('libtorch.so: cannot open shared object file')": "libtorch.so: cannot open shared object file",
    "raise ImportError('cannot import name x. Please install y')": "cannot import name x",
    "import no_such_module_of_theirs": "No module named 'no_such_module_of_theirs'",
    "1 / 0": "ZeroDivisionError: division by zero",
}


@pytest.mark.parametrize(("code", "why"), BROKEN.items())
def test_a_library_that_cannot_be_imported_is_told(
    code: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_library.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(libraries, "OURS", ("broken_library",))
    with pytest.raises(ConfigError, match=r"^a client library cannot be imported: ") as caught:
        import_libraries()
    assert f": {why}; look at variables such as" in str(caught.value)
    assert caught.value.__cause__ is not None


def test_those_that_are_there_are_imported() -> None:
    import_libraries()
