"""Where the user of this process keeps things: paths as they are written, and the home folder."""

import os
from pathlib import Path

from fedcore.core.errors import ConfigError


def local_path(spec: str | Path) -> Path:
    """Return a path that a user wrote, with a leading ~ or ~NAME replaced by that user's home.

    It stays as it is where there is no such user, or this one has no home: a file may be called ~draft.csv.
    """
    return Path(os.path.expanduser(spec))  # noqa: PTH111  (pathlib's own raises RuntimeError)


def home_folder(instead: str) -> Path:
    """Return the user's home folder; raises ConfigError, naming what to give `instead`, where the user has none.

    A container may run under a user id without an entry in passwd, and without HOME.
    """
    home = local_path("~")
    if not home.is_absolute():
        raise ConfigError(
            f"no home folder: HOME is {os.environ.get('HOME', 'not set')}, and user id {os.getuid()} has none in "
            f"passwd; {instead}"
        )
    return home
