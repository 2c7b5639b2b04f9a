"""The facts of a run for programs."""

from dataclasses import asdict

from fedcore.checkup.run_facts import RunFacts
from fedcore.core.contract.protocols import Json
from fedcore.core.data.device_rows import FleetRows, row_doubts


def facts_json(facts: RunFacts) -> Json:
    """Return the facts as a JSON value; `ok` is whether the run can begin and every class can join."""
    return {
        "ok": not facts.problems,
        "can_begin": facts.can_begin,
        "command": facts.command,
        "name": facts.config.run.name,
        "labels": list(facts.config.data.labels),
        "problems": list(facts.problems),
        "doubts": [*facts.doubts, *(() if facts.rows is None else row_doubts(facts.rows))],
        "rows": None if facts.rows is None else _rows(facts.rows),
        "classes": [asdict(kind) for kind in facts.classes],
        "total": None if facts.cost is None else asdict(facts.cost),
    }


def _rows(rows: FleetRows) -> Json:
    return {
        "training": rows.rows,
        "held_back": rows.held_back,
        "labels": dict(rows.labels),
        "column": rows.column,
        "values": dict(rows.values),
        "devices": [
            {
                "device": each.device,
                "class": each.device_class,
                "rows": each.rows,
                "labels": dict(each.labels),
                "values": dict(each.values),
            }
            for each in rows.devices
        ],
        "few": [each.device for each in rows.few],
        "single_label": [each.device for each in rows.single],
    }
