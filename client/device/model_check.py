"""Try the base model in a process of its own.

The process that asks need not load torch, which it would keep for as long as a run lasts, and a library that takes its
process down with it takes this one.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedcore.client.device.libraries import import_libraries
from fedcore.core.errors import FedcoreError, ModelError
from fedcore.core.model.quantization import NONE
from fedcore.storage.process.environment import module_command

DEADLINE_S = 600.0  # of a machine whose disk and cores are busy


def check_model(
    folder: Path,
    *,
    labels: Sequence[str],
    head: str,
    dtype: str,
    task: str = "",
    forms: Sequence[tuple[str, str]] = (),
) -> tuple[str, ...]:
    """Return the accelerators of this machine, such as ("cuda:0", "cuda:1"), once the model was loaded for a trial.

    `forms` are the forms of the base that are wanted, each with its device. Raises ModelError, with the remedy, where a
    device of this machine could not load tokenizer and model, or not in such a form. Needs the client extra. As
    `fedcore.nn.training.trial_load.check_loadable`, in another process.
    """
    asked: dict[str, Any] = {"folder": str(folder), "labels": list(labels), "head": head, "dtype": dtype, "task": task}
    asked |= {"forms": list(forms)}
    try:
        done = subprocess.run(
            module_command("fedcore.client.device.model_check"),
            input=json.dumps(asked),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ModelError(f"{folder}: loading one layer takes longer than {DEADLINE_S:.0f} s here") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit code {done.returncode}"
        raise ModelError(f"{folder}: the model could not be tried here, the process for it ended with {how}: {last}")
    answer = json.loads(done.stdout.splitlines()[-1])
    if answer["error"] is not None:
        raise ModelError(answer["error"])
    return tuple(answer["accelerators"])


def _main() -> None:
    asked = json.loads(sys.stdin.read())
    folder = Path(asked.pop("folder"))
    error: str | None = None
    found: tuple[str, ...] = ()
    try:
        import_libraries()
        from fedcore.nn.accelerator.present import accelerators, device_for
        from fedcore.nn.model.quantized import check_quantizable
        from fedcore.nn.training.trial_load import check_loadable

        forms = asked.pop("forms")
        check_loadable(folder, **asked)
        for form, device in forms:
            check_quantizable(form, device_for(device) if form != NONE else "cpu")
        found = accelerators()
    except FedcoreError as problem:
        error = str(problem)
    answer = {"error": error, "accelerators": found}
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


if __name__ == "__main__":
    _main()
