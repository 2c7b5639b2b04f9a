"""An authority with a coordinator, and machines that enrol with it."""

import datetime
from pathlib import Path

from fedcore.storage.pki.authority import create_authority, issue
from fedcore.storage.pki.certificates import Identity, Kind, TlsMaterial, load_material
from fedcore.storage.pki.token_text import JoinToken
from fedcore.storage.pki.tokens import make_tokens
from fedcore.transport.enrolment import enrol


def make_authority(folder: Path, *leaves: tuple[str, Kind]) -> Path:
    """Make an authority in `folder` with a coordinator's certificate and those of `leaves`."""
    create_authority(folder)
    issue(folder, "coordinator", kind="coordinator")
    for name, kind in leaves:
        issue(folder, name, kind=kind)
    return folder


def token_for(certs: Path, kind: Kind, name: str, *, hours: float = 1.0) -> JoinToken:
    """Make a join token."""
    (token,) = make_tokens(certs, Identity(kind=kind, name=name), valid=datetime.timedelta(hours=hours))
    return token


async def enrolled_material(
    address: str, token: JoinToken, folder: Path, name: str = "", *, wait_s: float = 5.0, replace: bool = False
) -> TlsMaterial:
    """Enrol at `address` and return what the machine then has."""
    name = name or token.identity.name
    await enrol(address, token, folder, name, wait_s=wait_s, replace=replace, say=lambda _: None)
    return load_material(folder, name)
