"""Check that all the images install has a wheel for linux/arm64: python docker/check_arm64.py [PYTHON_VERSION]...

The set is what this environment has installed for fedcore[client], followed from requirement to requirement as an
arm64 machine would; versions are those of constraints.txt. pip resolves every one of them for the foreign platform, by
name and metadata where the index offers that, and downloads no wheel. One line per package; exits 1 where one lacks.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ARM64 = {"platform_machine": "aarch64", "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
ROOT = Path(__file__).parents[1]
BUILD_TOOLS = ("setuptools",)  # named by torch for Python 3.12 on, pure Python, never pinned
DEADLINE_S = 600.0


def needed(name: str, extras: frozenset[str]) -> Iterator[str]:
    """Yield the canonical name of everything `name` with `extras` needs on arm64, itself left out, each once."""
    seen: set[tuple[str, frozenset[str]]] = set()
    open_ = [(name, extras)]
    while open_:
        package, wanted = open_.pop()
        for text in requires(package) or ():
            requirement = Requirement(text)
            markers = [ARM64 | {"extra": extra} for extra in ("", *wanted)]
            if requirement.marker is not None and not any(map(requirement.marker.evaluate, markers)):
                continue
            found = (canonicalize_name(requirement.name), frozenset(requirement.extras))
            if found not in seen:
                seen.add(found)
                open_.append(found)
    yield from sorted({each for each, _ in seen} - {name, *BUILD_TOOLS})


def pins(text: str) -> dict[str, str]:
    """Versions by canonical name in a constraints file."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    found = (line.partition("==") for line in lines if line)
    return {canonicalize_name(name): version for name, _, version in found}


def resolved(requirements: list[str], python: str) -> dict[str, str]:
    """File names of wheels by canonical name; raises RuntimeError with pip's words where one is missing."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        words = ["--dry-run", "--no-deps", "--ignore-installed", "--only-binary=:all:", "--quiet"]
        words += ["--target", folder, "--python-version", python, "--implementation", "cp", "--report", str(report)]
        words += [f"--platform={each}" for each in PLATFORMS]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *words, *requirements],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            encoding="utf-8",
        )
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        items = json.loads(report.read_text(encoding="utf-8"))["install"]
    urls = {each["metadata"]["name"]: each["download_info"]["url"] for each in items}
    return {canonicalize_name(name): url.rpartition("/")[2] for name, url in urls.items()}


def main(versions: list[str]) -> int:
    """Check for each Python version; returns the exit code."""
    known = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    names = list(needed("fedcore", frozenset({"client"})))
    if loose := [name for name in names if name not in known]:
        sys.stderr.write(f"constraints.txt pins no version of: {', '.join(loose)}\n")
        return 1
    wanted = [f"{name}=={known[name]}" for name in names]
    for python in versions:
        try:
            wheels = resolved(wanted, python)
        except RuntimeError as error:
            sys.stderr.write(f"Python {python}, linux/arm64: {error}\n")
            return 1
        for name, file in sorted(wheels.items()):
            sys.stdout.write(f"{name:24} {file}\n")
        sys.stdout.write(f"Python {python}: {len(wheels)} of {len(wanted)} packages have a wheel for linux/arm64\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["3.11"]))
