"""What each case's folder needs: made once, in the project's own interpreter, and read by every simulator."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulation import language, mlp
from benchmarks.simulation.configs import DATA, MODEL, config_of
from benchmarks.simulation.task import Case, write_arrays
from fedcore.client.data.labels import labelled_rows
from fedcore.client.data.rows import Rows, label_ids, read_rows
from fedcore.core.seeds import generator
from fedcore.nn.training.batches import encode_for
from fedcore.server.aggregate.assemble import untrained_adapter
from fedcore.server.run.preflight import check_run
from fedcore.simulation.fleet.rows import assign_rows
from fedcore.storage.models.fetch import resolve
from fedcore.storage.models.model_source import model_folder

SEED = 0
TEST_ROWS = 32  # a run of ours measures its model at the end, when no time is taken any more


def prepare(task: str, clients: int, rounds: int, folder: Path) -> Case:
    """Write case.json, task.npz and, for the language task, rows.csv and test.csv."""
    folder.mkdir(parents=True)
    if task == "mlp":
        case = Case(task=task, clients=clients, rounds=rounds, recipe=mlp.RECIPE)
        write_arrays(folder / "task.npz", mlp.make_data(clients, SEED))
    else:
        model = str(model_folder(MODEL))
        case = Case(task=task, clients=clients, rounds=rounds, recipe=language.RECIPE, model=model)
        rows = _chosen(clients * language.ROWS)
        _write_rows(rows, folder / "rows.csv")
        _write_rows(rows.select(range(TEST_ROWS)), folder / "test.csv")
        write_arrays(folder / "task.npz", _language(case, folder))
    case.write(folder)
    return case


def _chosen(count: int) -> Rows:
    """Return `count` rows of the data set, drawn at random."""
    rows = read_rows(resolve(DATA, "data"), text=("text",), label="label")
    if len(rows) < count:
        raise SystemExit(f"{DATA} has {len(rows)} rows, {count} are needed; take fewer clients")
    return rows.select(generator(SEED, "rows").permutation(len(rows))[:count])


def _write_rows(rows: Rows, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows((text, label) for (text,), label in zip(rows.texts, rows.labels, strict=True))


def _language(case: Case, folder: Path) -> dict[str, NDArray[np.generic]]:
    """Return all clients' token ids, masks (clients, rows, tokens), labels, and the first adapter of a run of ours."""
    config, training, _ = labelled_rows(config_of(case, folder))
    model, labels = Path(case.model), config.data.labels
    targets = label_ids(training, labels)
    encoded = encode_for(model, training.texts, targets.tolist(), language.MAX_LENGTH)
    shards = np.stack(assign_rows(config, training.labels, case.clients))  # (clients, rows)
    ids = np.full((*shards.shape, max(encoded.lengths)), encoded.pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for place, row in np.ndenumerate(shards):
        tokens = encoded.token_ids[row]
        ids[place][: len(tokens)], mask[place][: len(tokens)] = tokens, 1
    first = untrained_adapter(config, model, labels, check_run(config, model).spec)
    return {"ids": ids, "mask": mask, "labels": targets[shards], **first}
