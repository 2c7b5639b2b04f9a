"""Variables of the shell that would break a library before it says why: mended before anything is imported.

A variable with a value that fits is left as it is.
"""

import atexit
import os
import secrets
import shutil
import sys
import tempfile
import warnings
from collections.abc import MutableMapping, Sequence
from pathlib import Path

from fedcore.core.errors import ConfigError
from fedcore.storage.places import home_folder

# Variables that libraries read as a whole number of at least 1, and fail over at import or print nonsense otherwise.
COUNTS = (
    "COLUMNS",
    "LINES",
    "TERMINAL_WIDTH",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "HF_HUB_DOWNLOAD_TIMEOUT",
    "HF_HUB_ETAG_TIMEOUT",
)
# Where libraries keep what can be had again: below the home folder, unless a variable says otherwise.
CACHES = {
    "HF_HOME": "huggingface",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
    "TRITON_CACHE_DIR": "triton",
    "TORCH_HOME": "torch",
    "MPLCONFIGDIR": "matplotlib",
    "FLWR_HOME": "flwr",
}
_USERS = ("LOGNAME", "USER", "LNAME", "USERNAME")  # where Python looks for the user's name, before it asks passwd


def mend_environment(environment: MutableMapping[str, str] = os.environ) -> None:
    """Drop counts that are none, and give libraries a place and a user's name where the system has neither."""
    for name in COUNTS:
        if name in environment and not _is_count(environment[name]):
            del environment[name]
    try:
        home_folder("")
    except ConfigError:
        _do_without_home(environment)


def module_command(name: str) -> list[str]:
    """Return the command that runs a module by this interpreter, without the working folder on its path.

    Python 3.10 cannot leave the working folder out: there, a file such as random.py in it would be imported.
    """
    return [sys.executable, *(("-P",) if sys.version_info >= (3, 11) else ()), "-m", name]


def forgive_warnings(asked: Sequence[str] = sys.warnoptions) -> None:
    """Let a library's warning be none but a warning where PYTHONWARNINGS or -W makes errors of them.

    Such a setting is for tests of one's own code; here it would end a run at the first deprecated name.
    """
    if not any(each.split(":")[0] == "error" for each in asked):
        return
    warnings.simplefilter("default")
    for usually_ignored in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", usually_ignored)


def _is_count(text: str) -> bool:
    """Whether a variable says how many; a list of counts, one per level of nesting, does too."""
    counts = [each.strip() for each in text.split(",")]
    return all(each.isascii() and each.isdigit() and each.strip("0") for each in counts)


def _do_without_home(environment: MutableMapping[str, str]) -> None:
    """Libraries would make a folder called ~ in the working folder, and fail over a user without a name."""
    if not any(environment.get(name) for name in _USERS):
        environment["LOGNAME"] = f"uid{os.getuid()}"
    if all(environment.get(name) for name in CACHES):
        return
    chosen = environment.get("FEDCORE_CACHE")
    # Else a name that nobody can have taken before; no folder is made before a library needs it.
    place = Path(chosen or f"{tempfile.gettempdir()}/fedcore-{secrets.token_hex(8)}")
    if not chosen:
        atexit.register(shutil.rmtree, place, ignore_errors=True)
    for name, folder in CACHES.items():
        environment.setdefault(name, str(place / folder))
