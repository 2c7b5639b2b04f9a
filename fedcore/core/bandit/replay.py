"""Derive every choice of a run again from its event log, and compare."""

from collections.abc import Iterable, Mapping

from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.protocols import NO_STEPS, ArmSpace, Bandit, Json
from fedcore.core.errors import RunError
from fedcore.core.seeds import generator


def arm_space_json(space: ArmSpace) -> Json:
    """Return the JSON form of `space` in a choice event.

    Steps are left out where they are no choice, as of arms, and the context where there is none.
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
    """Check every "choice" event against what `bandit` picks now; return its final state per bandit key.

    Other events than "choice" and "reward" are passed over. `seed` is the run's. Raises RunError naming the
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
    """Return the choices and rewards that count: where a round was played again after a crash, only the last time."""
    kept: list[Json] = []
    for event in events:
        if event.get("event") not in ("choice", "reward"):
            continue
        if event["event"] == "choice" and kept and _replayed(kept[-1], event["round"]):
            kept = [earlier for earlier in kept if earlier["round"] < event["round"]]
        kept.append(event)
    return kept


def _replayed(last: Json, round_index: int) -> bool:
    return bool(last["event"] == "reward" and last["round"] >= round_index)


def _check(event: Json, bandit: Bandit, state: Json, seed: int) -> None:
    again = bandit.select(state, arm_space(event["space"]), generator(seed, "bandit", event["round"], event["device"]))
    if again != _arm(event["arm"]):
        raise RunError(
            f"replay differs in round {event['round']} for device {event['device']}: recorded {event['arm']}, "
            f"derived {arm_json(again)}; were seed, strategy settings or the event log changed?"
        )


def _arm(value: Mapping[str, float]) -> Arm:
    return Arm(sparsity=value["sparsity"], rank=int(value["rank"]), steps=int(value.get("steps", 0)))
