"""An error of the operating system in a line that says what to do."""

import errno
import os
from pathlib import Path


def system_message(cause: OSError) -> str | None:
    """Say what the system refused, with the remedy; None where it says too little for a user to act on."""
    if cause.errno in (errno.EMFILE, errno.ENFILE):
        return "too many open files; allow more with: ulimit -n 4096"
    if cause.filename is not None:
        return f"{os.fsdecode(cause.filename)}: {cause.strerror or cause}" + where_it_happened()
    if cause.errno == errno.ENOSPC:
        return "the output cannot be written: no space left on device"
    if "temporary directory" in str(cause):
        return "no folder for temporary files can be written; set TMPDIR to one that can"
    gone = where_it_happened()
    return f"{cause.strerror}{gone}" if gone else None


def where_it_happened() -> str:
    """Return a word on the working folder where it is gone, for a shell stays in one that is deleted; else nothing."""
    try:
        Path.cwd()
    except OSError:
        return "; the working folder is gone: change to another one"
    return ""
