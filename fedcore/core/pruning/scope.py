"""The devices that share a removal order: the fleet, a class, or a single device.

A policy's orders are a mapping from scope key to order (`fedcore.core.pruning.ordering`). A key is "fleet", a class, or
"class/device". Keep-sets of one order nest; keep-sets of two orders need not.
"""

from collections.abc import Iterable, Mapping, Sequence

from fedcore.core.contract.outcome import GroupScores
from fedcore.core.contract.protocols import Json
from fedcore.core.model.geometry import Counts, Geometry
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.pruning.kinds import WIDTH
from fedcore.core.pruning.ordering import freeze, initial_order, keep_sets, mean_order

SCOPES = ("fleet", "class", "device")

Orders = Mapping[str, Json]


def order_key(scope: str, device_class: str, device: str) -> str:
    """Return the key of a device's own order under `scope`; names never hold a slash."""
    return {"fleet": "fleet", "class": device_class, "device": f"{device_class}/{device}"}[scope]


def first_orders(
    scope: str, geometry: Geometry, prior: GroupScores | None, remove: Sequence[str] = WIDTH
) -> dict[str, Json]:
    """Return the orders before the first round; those of classes and devices are made at their first cut."""
    return {"fleet": initial_order(geometry, prior, remove)} if scope == "fleet" else {}


def frozen_orders(
    orders: Orders, cuts: Mapping[str, Counts], geometry: Geometry, prior: GroupScores | None
) -> dict[str, Json]:
    """Return the orders, those of `cuts` frozen up to their deepest cut; a missing order is made from `prior`."""
    after = dict(orders)
    for key, removed in cuts.items():
        order = after[key] if key in after else initial_order(geometry, prior)
        after[key] = freeze(order, geometry, removed)
    return after


def keep_sets_of(
    orders: Orders, places: Iterable[tuple[str, Counts]], geometry: Geometry
) -> dict[tuple[str, Counts], KeepSet]:
    """Return the keep-set of every place (key, counts)."""
    by_key: dict[str, set[Counts]] = {}
    for key, counts in places:
        by_key.setdefault(key, set()).add(counts)
    by_counts = {key: keep_sets(orders[key], geometry, counts) for key, counts in by_key.items()}
    return {(key, counts): kept for key, sets in by_counts.items() for counts, kept in sets.items()}


def class_order(orders: Orders, scope: str, device_class: str, geometry: Geometry, prior: GroupScores | None) -> Json:
    """Return the order that a class is exported by: the fleet's, its own, or the mean of its devices' scores.

    Before any device of the class has taken part, it is the order from `prior`.
    """
    if scope == "device":
        of_class = [order for key, order in sorted(orders.items()) if key.startswith(f"{device_class}/")]
    else:
        key = order_key(scope, device_class, "")
        of_class = [orders[key]] if key in orders else []
    return mean_order(of_class, geometry) if of_class else initial_order(geometry, prior)


def common_order(orders: Orders, geometry: Geometry) -> Json:
    """Return the fleet's one order, or the mean of all orders; raises ValueError for no order."""
    return mean_order([order for _, order in sorted(orders.items())], geometry)
