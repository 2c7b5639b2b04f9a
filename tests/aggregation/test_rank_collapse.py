"""Rank collapse (arXiv 2602.13486): devices of ranks 2, 4 and 8 exchange an adapter for 20 rounds and learn nothing."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from fedcore.aggregation.table import AGGREGATORS, make_aggregator
from fedcore.keep_set import KeepSet
from tests.aggregation.cohort import fold_all, make_spec, make_update, product, trained_adapter

ROUNDS = 20
FADES = {"flexlora", "hetlora"}  # weights that ignore who holds a component


def energy_above_two(spec, adapter):
    """Share of the products' squared norm beyond their two leading components, the mean over layers."""
    squares = [np.linalg.svd(product(adapter, *at), compute_uv=False) ** 2 for at in spec.modules()]
    return float(np.mean([each[2:].sum() / each.sum() for each in squares]))


def exchanged(name):
    """Return the energy before and after every round."""
    aggregator = make_aggregator(name)
    spec = make_spec(rank=aggregator.server_rank(8))
    rng = np.random.default_rng(7)
    adapter = trained_adapter(spec, rng)
    energies = [energy_above_two(spec, adapter)]
    for number in range(1, ROUNDS + 1):
        updates = [
            make_update(spec, rng, f"d{rank}", rank=rank, keep_set=KeepSet.full(spec.geometry), size=0.0)
            for rank in (2, 4, 8)
        ]
        still = [replace(each, round=number, weight=1) for each in updates]
        adapter, _ = aggregator.finish(fold_all(aggregator, spec, still), adapter)
        energies.append(energy_above_two(spec, adapter))
    return energies


@pytest.mark.parametrize("name", [name for name in AGGREGATORS if name not in FADES])
def test_what_nobody_changed_stays(name):
    energies = exchanged(name)
    assert energies[0] > 0.3
    np.testing.assert_allclose(energies, energies[0], rtol=1e-4)


@pytest.mark.parametrize("name", sorted(FADES))
def test_the_baselines_collapse_to_the_smallest_rank_as_published(name):
    energies = exchanged(name)
    assert energies[0] > 0.3 and energies[5] < 0.15 and energies[-1] < 1e-3
    assert all(after < before for before, after in itertools.pairwise(energies))
