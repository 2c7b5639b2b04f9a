"""Everything that runs on an accelerator, on a make-believe one; it changes PyTorch for a whole process."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(900)  # every operation passes through Python
@pytest.mark.parametrize(
    "cases",
    [
        "tests/nn/fake_accelerator_cases.py",
        "tests/nn/fake_device_cases.py",
        "tests/client/training/fake_device_cases.py",
        "tests/simulation/fake_device_cases.py",
    ],
)
def test_cases_pass_in_a_process_of_their_own(cases: str) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", cases]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
