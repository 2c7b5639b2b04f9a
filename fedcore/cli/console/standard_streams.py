"""The standard streams as a shell hands them over: closed, or of an encoding that lacks half of all characters."""

import codecs
import io
import json
import os
import sys

import typer

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def prepare_streams() -> None:
    """Have three open standard streams on which no character is an error."""
    for number, (name, mode) in enumerate(_STREAMS):
        _open(number)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=writable_encoding(stream.encoding), errors="backslashreplace")


def writable_encoding(encoding: str) -> str:
    """Return the encoding to write a stream with: its own, but UTF-8 for ASCII, as Python takes in the C locale."""
    return "utf-8" if codecs.lookup(encoding).name == "ascii" else encoding


def echo_json(text: str) -> None:
    """Print JSON on stdout, with escapes for what the stream's encoding lacks: it must stay JSON."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), indent=2)
    typer.echo(text)


def _open(number: int) -> None:
    """Put the null device where a descriptor is closed: the next file would get its number, and a library's output."""
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        os.set_inheritable(number, True)
