"""Tiny geometries, random cohorts, and the dense formulas that aggregators are checked against."""

import itertools

import numpy as np

from fedcore.core.contract.update import Update
from fedcore.core.model.adapter import AdapterSpec, initial_adapter, restrict
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.model.keep_set import KeepSet

_SMALL = {"num_hidden_layers": 2, "intermediate_size": 20, "vocab_size": 50, "max_position_embeddings": 32}
GEOMETRIES = {
    "bert": geometry_from_config(_SMALL | {"model_type": "bert", "hidden_size": 24, "num_attention_heads": 4}),
    "gqa": geometry_from_config(
        _SMALL | {"model_type": "llama", "hidden_size": 36, "num_attention_heads": 9, "num_key_value_heads": 3}
    ),
    "mqa": geometry_from_config(
        _SMALL | {"model_type": "llama", "hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 1}
    ),
}
HEAD = (("head.bias", (3,)), ("head.scale", ()), ("head.weight", (3, 24)))


def make_spec(family: str = "bert", *, rank: int = 8) -> AdapterSpec:
    geometry = GEOMETRIES[family]
    return AdapterSpec(geometry=geometry, rank=rank, targets=geometry.modules, head=HEAD)


def random_keep_set(spec: AdapterSpec, rng: np.random.Generator, *, sparsity: float) -> KeepSet:
    geometry = spec.geometry

    def some(total: int) -> tuple[int, ...]:
        kept = max(1, round(total * (1 - sparsity)))
        return tuple(sorted(rng.choice(total, kept, replace=False).tolist()))

    return KeepSet(
        heads=tuple(some(geometry.head_units) for _ in range(geometry.layers)),
        channels=tuple(some(geometry.ffn) for _ in range(geometry.layers)),
    )


def make_update(
    spec: AdapterSpec, rng: np.random.Generator, device: str, *, rank: int, keep_set: KeepSet, size: float = 0.1
) -> Update:
    tensors = {
        name: (size * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in spec.shapes(rank=rank, keep_set=keep_set).items()
    }
    weight = int(rng.integers(1, 1000))
    return Update(device=device, round=1, weight=weight, rank=rank, keep_set=keep_set, tensors=tensors)


def make_cohort(spec: AdapterSpec, rng: np.random.Generator, *, ranks: tuple[int, ...] = (2, 4, 8, 4)) -> list[Update]:
    sparsities = itertools.cycle((0.0, 0.3, 0.5, 0.7))
    return [
        make_update(spec, rng, f"device-{i}", rank=rank, keep_set=random_keep_set(spec, rng, sparsity=next(sparsities)))
        for i, rank in enumerate(ranks)
    ]


def trained_adapter(spec: AdapterSpec, rng: np.random.Generator) -> dict[str, np.ndarray]:
    adapter = initial_adapter(spec, rng)
    return {
        name: (rng.standard_normal(value.shape) * 0.1).astype(np.float32) if name.endswith(".B") else value
        for name, value in adapter.items()
    }


def product(adapter: dict[str, np.ndarray], layer: int, module: str) -> np.ndarray:
    key = f"layers.{layer}.{module}"
    return adapter[f"{key}.B"].astype(np.float64) @ adapter[f"{key}.A"].astype(np.float64)


def expand(spec: AdapterSpec, keep_set: KeepSet, layer: int, module: str, held: np.ndarray) -> np.ndarray:
    """Write a device's (kept out, kept in) product into the dense (out, in) zeros."""
    full = np.zeros(spec.geometry.shape(module))
    cut, kept = spec.geometry.cut(module), keep_set.indices(spec.geometry, layer, module)
    if cut is None:
        return held
    full[(kept, slice(None)) if cut.side == "out" else (slice(None), kept)] = held
    return full


def dense_products(spec: AdapterSpec, adapter, updates, *, server_lr: float = 1.0) -> dict[tuple[int, str], np.ndarray]:
    """G + lr * sum_k p_k (B1 A1 - B0 A0), dense, float64, by (layer, module)."""
    total = sum(update.weight for update in updates)
    result = {(layer, module): product(adapter, layer, module) for layer, module in spec.modules()}
    for update in updates:
        before = restrict(spec, adapter, rank=update.rank, keep_set=update.keep_set)
        after = {name: before[name].astype(np.float64) + update.tensors[name] for name in before}
        for layer, module in spec.modules():
            moved = product(after, layer, module) - product(before, layer, module)
            share = server_lr * update.weight / total
            result[layer, module] = result[layer, module] + share * expand(spec, update.keep_set, layer, module, moved)
    return result


def dense_factors(spec: AdapterSpec, adapter, updates, *, server_lr: float = 1.0) -> dict[str, np.ndarray]:
    """Every tensor + lr * weighted mean of zero-filled increments, float64."""
    total = sum(update.weight for update in updates)
    after = {name: value.astype(np.float64) for name, value in adapter.items()}
    for update in updates:
        for name, value in update.tensors.items():
            full = np.zeros(adapter[name].shape)
            full[_held(spec, update, name)] = value
            after[name] = after[name] + server_lr * update.weight / total * full
    return after


def _held(spec: AdapterSpec, update: Update, name: str):
    if name.startswith("head."):
        return ...
    _, layer, module, factor = name.split(".")
    cut = spec.geometry.cut(module)
    kept = update.keep_set.indices(spec.geometry, int(layer), module)
    out, into = spec.geometry.shape(module)
    rows = kept if cut is not None and cut.side == "out" else np.arange(out)
    columns = kept if cut is not None and cut.side == "in" else np.arange(into)
    return np.ix_(range(update.rank), columns) if factor == "A" else np.ix_(rows, range(update.rank))


def fold_all(aggregator, spec: AdapterSpec, updates):
    partial = aggregator.start(spec)
    for update in updates:
        partial = aggregator.fold(partial, update)
    return partial


def fold_tree(aggregator, spec: AdapterSpec, updates, rng: np.random.Generator):
    """Fold the updates at random edges and merge them in a random binary tree."""
    order = [updates[i] for i in rng.permutation(len(updates))]
    cuts = sorted(rng.choice(np.arange(len(order) + 1), 2))
    groups = [order[: cuts[0]], order[cuts[0] : cuts[1]], order[cuts[1] :]]
    partials = [fold_all(aggregator, spec, group) for group in groups]
    while len(partials) > 1:
        right = partials.pop(int(rng.integers(len(partials))))
        left = partials.pop(int(rng.integers(len(partials))))
        partials.append(aggregator.merge(left, right))
    return partials[0]


def same_bits(left, right) -> bool:
    return set(left) == set(right) and all(left[name].tobytes() == right[name].tobytes() for name in left)
