"""Run the device's side under every interpreter of the matrix: python -m tests.matrix [CELL...] [--folder DIR].

A cell gets a virtual environment with its own interpreter, fedcore[client] and the cell's versions; then the device's
tests run in it, and a fleet whose devices are of that interpreter and of this one, with a coordinator of this one. An
interpreter that is not here, or a set of versions that pip does not find, is said and no failure. On Linux, PyPI's own
builds of PyTorch bring gigabytes of CUDA libraries per cell: --torch-index URL names an index of CPU builds.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.matrix.cells import EXTRAS, ROOT, Cell, cells

TESTS = ("tests/core", "tests/protos", "tests/transport", "tests/storage", "tests/client", "tests/nn")
TOOLS = ("pytest>=9", "pytest-asyncio>=1", "pytest-timeout>=2", "pytest-xdist>=3", "hypothesis>=6", "jsonschema>=4")
TOOLS += ("scikit-learn>=1", "torch-pruning==1.6.1")
# Flower and the generator of the wire's code are not the device's; PyTorch 2.5 cannot have the fake accelerator.
LEFT_OUT = ("tests/client/flower", "tests/protos/test_generate.py", "tests/nn/test_fake_device.py")
FLEET = "tests/matrix/fleet_cases.py"
PYTHON_VARIABLE = "FEDCORE_MATRIX_PYTHON"  # the interpreter of the fleet's other devices
SAY = "import torch, transformers, peft, numpy as np; print(*(m.__version__ for m in (torch, transformers, peft, np)))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a cell ended. `failed` is false for a cell that could not run."""

    cell: str
    said: str
    failed: bool


def interpreter(version: str) -> Path | None:
    """Return the path of a Python of this version: on the PATH, or one of pyenv's; None where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    named = shutil.which(f"python{version}")
    places = [*([Path(named)] if named else []), *sorted(pyenv.glob(f"{version}.*/bin/python"))]
    asked = "import sys; print('%d.%d' % sys.version_info[:2])"
    for place in places:
        done = subprocess.run([place, "-c", asked], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip() == version:
            return place
    return None


def built(cell: Cell, python: Path, folder: Path, index: str | None) -> Path | str:
    """Return the interpreter of the cell's environment, made where it is not there; else what pip said."""
    made = folder / cell.name / "bin" / "python"
    done = folder / cell.name / "complete"
    if done.is_file():
        return made
    subprocess.run([python, "-m", "venv", "--clear", folder / cell.name], check=True)
    bounds = folder / f"{cell.name}.txt"
    bounds.write_text("\n".join(cell.constraints) + "\n", encoding="utf-8")
    words = ["--quiet", "--disable-pip-version-check", "--no-cache-dir", "--prefer-binary", "-c", str(bounds)]
    words += ["--extra-index-url", index] if index else []
    asked = [made, "-m", "pip", "install", *words, "-e", f"{ROOT}[{','.join(EXTRAS)}]", *TOOLS]
    installed = subprocess.run(asked, capture_output=True, text=True, check=False)
    if installed.returncode:
        errors = [line for line in installed.stderr.splitlines() if line.startswith("ERROR")]
        return (errors or ["pip failed"])[0]
    done.touch()
    return made


def run_cell(cell: Cell, *, folder: Path, index: str | None, jobs: int) -> Outcome:
    """Build a cell and run its tests and its fleet."""
    python = interpreter(cell.python)
    if python is None:
        return Outcome(cell=cell.name, said=f"not run: no Python {cell.python} here", failed=False)
    made = built(cell, python, folder, index)
    if isinstance(made, str):
        return Outcome(cell=cell.name, said=f"not run: {made}", failed=False)
    versions = subprocess.run([made, "-c", SAY], capture_output=True, text=True, check=False)
    if versions.returncode:
        last = (versions.stderr.strip().splitlines() or ["without a word"])[-1]
        return Outcome(cell=cell.name, said=f"the libraries cannot be imported: {last}", failed=True)
    log = folder / f"{cell.name}.log"
    ignored = [f"--ignore={place}" for place in LEFT_OUT]
    tests = _pytest([made, "-m", "pytest", "-n", str(jobs), "--dist", "loadfile", *ignored, *TESTS], log)
    fleet = _pytest([sys.executable, "-m", "pytest", FLEET], log, **{PYTHON_VARIABLE: str(made)})
    said = f"torch, transformers, peft, numpy {versions.stdout.strip()}; tests {tests[1]}; fleet {fleet[1]}"
    return Outcome(cell=cell.name, said=f"{said} ({log})", failed=bool(tests[0] or fleet[0]))


def _pytest(command: Sequence[str | Path], log: Path, **variables: str) -> tuple[int, str]:
    """Return pytest's exit code and its last line."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    with log.open("ab") as output:
        begin = output.tell()
        command = [*command, "-p", "no:cacheprovider"]
        code = subprocess.run(command, cwd=ROOT, env=environment, stdout=output, stderr=output, check=False).returncode
    lines = log.read_bytes()[begin:].decode(errors="replace").splitlines()
    sums = [line for line in lines if re.match(r"=* ?[0-9]+ (passed|failed|error)", line)]
    return code, (sums or [f"ended with exit code {code}"])[-1].strip("= ")


def main(words: Sequence[str]) -> int:
    """Run the named cells, or all; return 1 where one failed."""
    known = {cell.name: cell for cell in cells()}
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cells", nargs="*", metavar="CELL", help=f"of {', '.join(known)}; all if none is named")
    parser.add_argument("--folder", type=Path, help="where environments and logs are made and kept (default: none)")
    parser.add_argument("--torch-index", help="one more package index, for PyTorch")
    parser.add_argument("--jobs", type=int, default=2, help="test processes at once")
    asked = parser.parse_args(words)
    if strange := [name for name in asked.cells if name not in known]:
        parser.error(f"no cell {strange[0]!r}; there are {', '.join(known)}")
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in asked.cells or known:
            begin = time.monotonic()
            outcome = run_cell(known[name], folder=folder.resolve(), index=asked.torch_index, jobs=asked.jobs)
            failed = failed or outcome.failed
            word = "FAILED" if outcome.failed else "-"
            print(f"{name} {word} {outcome.said}; {time.monotonic() - begin:.0f} s", flush=True)
            if outcome.failed and asked.folder is None:
                print((folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")[-4000:], flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
