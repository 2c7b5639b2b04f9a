"""Derive every choice of a run again from its event log, and compare it with the record."""

from collections.abc import Iterable, Mapping

from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.protocols import NO_STEPS, ArmSpace, Bandit, Json
from fedcore.core.errors import RunError
from fedcore.core.seeds import generator


def arm_space_json(space: ArmSpace) -> Json:
    """Return the JSON form of `space` in a choice event.

    Steps are left out where there is no choice of them, as in `arm_json`, and the context where there is none.
    """
    axes: Json = {"low": space.sparsity_low, "high": space.sparsity_high, "ranks": list(space.ranks)}
    if space.steps != NO_STEPS:
        axes["steps"] = list(space.steps)
    if space.context:
        axes["context"] = list(space.context)
    return axes


def arm_space(value: Json) -> ArmSpace:
    """Return the space that `arm_space_json` wrote."""
    return ArmSpace(
        sparsity_low=value["low"],
        sparsity_high=value["high"],
        ranks=tuple(value["ranks"]),
        steps=tuple(value.get("steps", NO_STEPS)),
        context=tuple(value.get("context", ())),
    )


def arm_json(arm: Arm) -> Json:
    """Return the JSON form of `arm` in events."""
    axes: Json = {"sparsity": arm.sparsity, "rank": arm.rank}
    return axes | {"steps": arm.steps} if arm.steps else axes


def replay(events: Iterable[Json], bandit: Bandit, seed: int) -> dict[str, Json]:
    """Check every "choice" event against the arm that `bandit` selects now; return its final state per bandit key.

    Events other than "choice" and "reward" are ignored. `seed` is the run's. Raises RunError naming the
    first choice that differs.
    """
    states: dict[str, Json] = {}
    for event in committed(events):
        key = event["bandit_key"]
        state = states[key] if key in states else bandit.start()
        if event["event"] == "choice":
            _check(event, bandit, state, seed)
        elif event["reward"] is not None:
            states[key] = bandit.observe(state, _arm(event["arm"]), event["reward"], tuple(event.get("context", ())))
    return states


def committed(events: Iterable[Json]) -> list[Json]:
    """Return the choices and rewards that count: of a round repeated after a crash, those of the last time only."""
    counted: list[Json] = []
    for event in events:
        if event.get("event") not in ("choice", "reward"):
            continue
        if event["event"] == "choice" and counted and _is_repeated(counted[-1], event["round"]):
            counted = [earlier for earlier in counted if earlier["round"] < event["round"]]
        counted.append(event)
    return counted


def _is_repeated(last: Json, round_index: int) -> bool:
    return bool(last["event"] == "reward" and last["round"] >= round_index)


def _check(event: Json, bandit: Bandit, state: Json, seed: int) -> None:
    derived = bandit.select(
        state, arm_space(event["space"]), generator(seed, "bandit", event["round"], event["device"])
    )
    if derived != _arm(event["arm"]):
        raise RunError(
            f"replay differs in round {event['round']} for device {event['device']}: recorded {event['arm']}, "
            f"derived {arm_json(derived)}; were seed, strategy settings or the event log changed?"
        )


def _arm(value: Mapping[str, float]) -> Arm:
    return Arm(sparsity=value["sparsity"], rank=int(value["rank"]), steps=int(value.get("steps", 0)))
