"""A base model brought as blobs: whole, verified, and nothing written outside its folder."""

from dataclasses import replace
from pathlib import Path

import pytest

from fedcore.client.device.base_model import base_model
from fedcore.core.errors import ProtocolError
from fedcore.protos.values import BlobRef, RunDescription
from fedcore.protos.wire import PROTOCOL
from fedcore.storage.models.checkpoint import fingerprint, model_files
from tests.client.conftest import FakeLink
from tests.tiny_run import write_model


def offered(folder: Path) -> tuple[RunDescription, FakeLink]:
    files = tuple(BlobRef(id=f"sha256:{file.sha256}", size=file.size, name=file.name) for file in model_files(folder))
    description = RunDescription(
        protocol_min=PROTOCOL,
        protocol_max=PROTOCOL,
        run_id="run",
        labels=("a", "b"),
        fingerprint=fingerprint(folder),
        model_files=files,
        max_length=8,
        head="auto",
        dtype="float32",
    )
    return description, FakeLink(held={ref.id: (folder / ref.name).read_bytes() for ref in files})


async def test_files_are_fetched_once_and_linked_into_place(tmp_path: Path) -> None:
    write_model(tmp_path / "theirs")
    description, link = offered(tmp_path / "theirs")
    for _ in range(2):
        folder = await base_model(link, description, None, tmp_path / "state")  # type: ignore[arg-type]
        assert fingerprint(folder) == description.fingerprint
        assert all(path.stat().st_nlink == 2 for path in folder.iterdir()), "hard links: no second copy on disk"
    link.held.clear()
    await base_model(link, description, None, tmp_path / "state")  # type: ignore[arg-type]


async def test_an_own_folder_is_used_as_it_is(tmp_path: Path) -> None:
    write_model(tmp_path / "own")
    description, link = offered(tmp_path / "own")
    found = await base_model(link, description, tmp_path / "own", tmp_path / "state")  # type: ignore[arg-type]
    assert found == tmp_path / "own" and link.transfers == 0 and not (tmp_path / "state").exists()


async def test_the_files_of_another_run_do_not_stay(tmp_path: Path) -> None:
    for number, name in enumerate(("first", "second")):
        write_model(tmp_path / name, seed=number)
    (tmp_path / "first" / "vocab.txt").write_text("only of the first\n")
    for name in ("first", "second"):
        description, link = offered(tmp_path / name)
        folder = await base_model(link, description, None, tmp_path / "state")  # type: ignore[arg-type]
        assert {path.name for path in folder.iterdir()} == {ref.name for ref in description.model_files}
        assert fingerprint(folder) == description.fingerprint


async def test_a_file_that_a_power_cut_spoilt_is_fetched_again(tmp_path: Path) -> None:
    write_model(tmp_path / "theirs")
    description, link = offered(tmp_path / "theirs")
    folder = await base_model(link, description, None, tmp_path / "state")  # type: ignore[arg-type]
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)  # the blob is the same file
    folder = await base_model(link, description, None, tmp_path / "state")  # type: ignore[arg-type]
    assert fingerprint(folder) == description.fingerprint


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "..", ".", "", "sub/file", "a/../../evil"])
async def test_a_name_that_leaves_the_folder_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    write_model(tmp_path / "theirs")
    description, link = offered(tmp_path / "theirs")
    evil = replace(description, model_files=(*description.model_files, replace(description.model_files[0], name=name)))
    with pytest.raises(ProtocolError, match="expected a plain file name"):
        await base_model(link, evil, None, tmp_path / "state")  # type: ignore[arg-type]
    assert link.transfers == 0 and not (tmp_path / "state").exists()
