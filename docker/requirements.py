"""Print what FOLDER/pyproject.toml requires, with the named extras: requirements.py FOLDER [EXTRA]...

The images install them in a layer of its own, below fedcore itself, so that a changed source file does not bring the
dependencies anew.
"""

import sys
import tomllib
from pathlib import Path


def requirements(text: str, extras: list[str]) -> list[str]:
    """The requirements in a pyproject.toml's `text`; raises KeyError for an extra that is not there."""
    project = tomllib.loads(text)["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    return wanted


if __name__ == "__main__":
    folder, *extras = sys.argv[1:]
    sys.stdout.write(
        "\n".join(requirements((Path(folder) / "pyproject.toml").read_text(encoding="utf-8"), extras)) + "\n"
    )
