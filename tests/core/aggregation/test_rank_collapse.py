"""Rank collapse (arXiv 2602.13486): devices of ranks 2, 4 and 8 exchange an adapter for 20 rounds and learn nothing."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from fedcore.core.aggregation.table import AGGREGATORS, make_aggregator
from fedcore.core.model.keep_set import KeepSet
from tests.core.aggregation.cohort import fold_all, make_spec, make_update, product, trained_adapter

ROUNDS = 20
FADES = {"flexlora", "hetlora"}  # weights that ignore which devices hold a component
EQUAL_RANKS = {"fedex-lora"}


def energy_above_two(spec, tensors):
    """Share of the squared norm beyond the two leading components of what is added to the base, mean over layers."""
    squares = []
    for layer, module in spec.modules():
        shift = tensors.get(f"layers.{layer}.{module}.W", 0)
        squares.append(np.linalg.svd(product(tensors, layer, module) + shift, compute_uv=False) ** 2)
    return float(np.mean([each[2:].sum() / each.sum() for each in squares]))


def learned(name, spec):
    """A trained adapter; where devices are handed B = 0 every round, what was learned lies in the base shift."""
    adapter = trained_adapter(spec, np.random.default_rng(7))
    if name != "flora":
        return adapter
    shift = {f"layers.{at[0]}.{at[1]}.W": product(adapter, *at).astype(np.float32) for at in spec.modules()}
    return {key: 0 * value if key.endswith(".B") else value for key, value in adapter.items()} | shift


def exchanged(name, ranks=(2, 4, 8)):
    """Return the energy before and after every round."""
    aggregator = make_aggregator(name)
    spec = make_spec(rank=aggregator.server_rank(8))
    rng, adapter = np.random.default_rng(0), learned(name, spec)
    energies = [energy_above_two(spec, adapter)]
    for number in range(1, ROUNDS + 1):
        updates = [
            make_update(spec, rng, f"d{number}", rank=rank, keep_set=KeepSet.full(spec.geometry), size=0.0)
            for number, rank in enumerate(ranks)
        ]
        still = [replace(each, round=number, weight=1) for each in updates]
        adapter, _ = aggregator.finish(fold_all(aggregator, spec, still), adapter)
        energies.append(energy_above_two(spec, adapter))
    return energies


@pytest.mark.parametrize("name", [name for name in AGGREGATORS if name not in FADES | EQUAL_RANKS])
def test_what_nobody_changed_stays(name):
    energies = exchanged(name)
    assert energies[0] > 0.3
    np.testing.assert_allclose(energies, energies[0], rtol=1e-4)


def test_fedex_lora_is_exact_for_the_equal_ranks_it_is_made_for():
    energies = exchanged("fedex-lora", ranks=(8, 8, 8))
    np.testing.assert_allclose(energies, energies[0], rtol=1e-4)
    mixed = exchanged("fedex-lora")
    assert mixed[1] < 0.7 * mixed[0] and mixed[-1] > 0.3 * mixed[0], "the rest is safe once it lies in the base"


@pytest.mark.parametrize("name", sorted(FADES))
def test_the_baselines_collapse_to_the_smallest_rank_as_published(name):
    energies = exchanged(name)
    assert energies[0] > 0.3 and energies[5] < 0.15 and energies[-1] < 1e-3
    assert all(after < before for before, after in itertools.pairwise(energies))
