"""A run that has an evaluator waits for it at its end, also where that has yet to come back to a new coordinator."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fedcore.server.run.run_log import EVALUATOR_KEY
from tests.server.conftest import TinyModel
from tests.server.in_process.test_hostile import Together, evaluator, play_evaluator
from tests.tiny_run import PATIENCE_S, Served, serving, until

SETTINGS = ["coordinator.min_devices=1", "run.rounds=1"]


def knows_of_one(served: Served) -> Any:
    ledger = served.ledger()
    try:
        return ledger.get_meta(EVALUATOR_KEY)
    finally:
        ledger.close()


async def test_a_run_that_goes_on_waits_for_the_evaluator_it_had(
    tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    async with serving(tmp_path / "run", tiny.folder, SETTINGS) as served:
        assert knows_of_one(served) is None
        watching = asyncio.ensure_future(play_evaluator(evaluator(tiny, served, tmp_path), "model.safetensors"))
        await until(lambda: knows_of_one(served))
    watching.cancel()
    async with serving(tmp_path / "run", tiny.folder, resume=True) as resumed:
        await together(tiny.device(resumed, "lone", tmp_path))
        await asyncio.sleep(0.2)
        assert not resumed.task.done(), "its rounds are over, and nobody has measured or exported anything"
        judge = play_evaluator(evaluator(tiny, resumed, tmp_path), "model.safetensors")
        summary, _ = await asyncio.wait_for(asyncio.gather(resumed.summary(), judge), PATIENCE_S)
    assert summary["global"]["final"]["accuracy"] == 0.75
    assert (tmp_path / "run" / "exports" / "tiny" / "model.safetensors").is_file()


@pytest.mark.parametrize("awaited", [False, True])
async def test_an_evaluator_that_never_came_is_awaited_where_one_was_promised(
    awaited: bool, tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    settings = [*SETTINGS, "evaluation.deadline_s=0.5"]
    async with serving(tmp_path / "run", tiny.folder, settings, await_evaluator=awaited) as served:
        await together(tiny.device(served, "lone", tmp_path))
        await served.summary()
        committed, finished = (served.events(kind)[-1]["t"] for kind in ("committed", "finished"))
    assert (finished - committed > 0.45) is awaited
    assert any("no evaluator answered" in words for words in served.said)
