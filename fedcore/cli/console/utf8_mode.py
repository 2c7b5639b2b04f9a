"""Start again in Python's UTF-8 mode where the locale is of another encoding.

Configurations are UTF-8, and so are the file names in them; under another locale Python would look for files of other
names, and libraries would read their files in its encoding. Python 3.15 is always in this mode (PEP 686).
"""

import codecs
import os
import sys
from pathlib import PurePath

from fedcore.cli.console.standard_streams import writable_encoding

_OURS = ("fedcore", "main")  # how the command's script is called, and `python -m fedcore.cli.main`


def ensure_utf8_mode() -> None:
    """Replace this process by one in UTF-8 mode, unless its file names are UTF-8 already; returns where they are.

    The terminal keeps the encoding it has. Another program that calls the command line stays as it is.
    """
    if sys.flags.utf8_mode or codecs.lookup(sys.getfilesystemencoding()).name == "utf-8":
        return
    if os.name != "posix" or not sys.executable or PurePath(sys.argv[0]).stem not in _OURS:
        return
    encoding = writable_encoding(getattr(sys.stdout, "encoding", None) or "ascii")
    os.environ.setdefault("PYTHONIOENCODING", f"{encoding}:backslashreplace")
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
