"""A bundling aggregator around a rule of the test: the rule's input, its output, and what they become."""

import numpy as np
import pytest

from fedcore.core.aggregation.bundle.bundling import Bundling, Combined, Layer
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.base_shift import SHIFT, shift_shapes
from fedcore.core.model.keep_set import KeepSet
from tests.core.aggregation.cohort import fold_all, make_spec, make_update, same_bits, trained_adapter

SPEC = make_spec(rank=4)


def bundling(seen, *, step=False, **options):
    """Return an aggregator with a rule that notes its input, and returns twos, ones and a quarter dropped."""

    def rule(layer: Layer) -> Combined:
        seen.append(layer)
        ones = np.ones((layer.b.shape[0], 1)), np.ones((1, layer.a.shape[1]))
        b, a = np.full_like(layer.b, 2.0), np.ones_like(layer.a)
        return Combined(b=b, a=a, energy=4.0, dropped=1.0, step=ones if step else None)

    return Bundling(name="noting", rule=rule, has_dense_form=False, shifts_base=step, **options)


def updates(*devices):
    rng, full = np.random.default_rng(0), KeepSet.full(SPEC.geometry)
    return [make_update(SPEC, rng, device, rank=rank, keep_set=full) for device, rank in devices]


def test_the_rule_gets_every_layer_with_the_updates_in_the_order_of_their_keys():
    seen, adapter = [], trained_adapter(SPEC, np.random.default_rng(1))
    aggregator, sent = bundling(seen, server_lr=0.5), updates(("zoe", 2), ("ada", 4))
    weight = sum(update.weight for update in sent)
    after, report = aggregator.finish(fold_all(aggregator, SPEC, sent), adapter)
    assert len(seen) == len(list(SPEC.modules())) and {layer.rank for layer in seen} == {4}
    first = seen[0]
    assert [update.da.shape[0] for update in first.updates] == [4, 2], "ada before zoe"
    assert [update.share for update in first.updates] == [sent[1].weight / weight, sent[0].weight / weight]
    np.testing.assert_array_equal(first.b, adapter["layers.0.q.B"])
    assert first.mean_increment is None and first.server_lr == 0.5 and first.side == "out"
    assert list(after) == list(SPEC.shapes())
    assert (after["layers.0.q.B"] == 2).all() and (after["layers.1.down.A"] == 1).all()
    assert (report.weight, report.updates, report.dropped_energy) == (weight, 2, 0.25)


def test_a_layers_generator_depends_on_layer_and_module_alone():
    draws = []
    for order in (("ada", "bob"), ("bob", "ada")):
        seen = []
        aggregator = bundling(seen)
        partial = fold_all(aggregator, SPEC, updates(*((device, 2) for device in order)))
        aggregator.finish(partial, trained_adapter(SPEC, np.random.default_rng(1)))
        draws.append([layer.rng.random() for layer in seen])
    assert draws[0] == draws[1] and len(set(draws[0])) == len(draws[0])


def test_a_step_moves_the_base_shift():
    aggregator = bundling([], step=True)
    adapter = trained_adapter(SPEC, np.random.default_rng(1))
    after, report = aggregator.finish(fold_all(aggregator, SPEC, updates(("ada", 4))), adapter)
    assert set(after) - set(SPEC.shapes()) == set(shift_shapes(SPEC)) and report.step
    assert (after[f"layers.0.q{SHIFT}"] == 1).all()
    again, _ = aggregator.finish(fold_all(aggregator, SPEC, updates(("ada", 4))), dict(after))
    assert (again[f"layers.0.q{SHIFT}"] == 2).all()


def test_without_an_update_the_adapter_stays_and_the_rule_is_not_asked():
    seen, adapter = [], trained_adapter(SPEC, np.random.default_rng(1))
    aggregator = bundling(seen)
    after, report = aggregator.finish(aggregator.start(SPEC), adapter)
    assert same_bits(after, adapter) and (report.weight, report.updates) == (0, 0) and seen == []


def test_a_server_rank_is_the_factor_times_the_largest_rank():
    assert bundling([], rank_factor=3).server_rank(8) == 24 and bundling([]).server_rank(8) == 8


def test_a_device_is_folded_once():
    aggregator = bundling([])
    partial = fold_all(aggregator, SPEC, updates(("ada", 2)))
    with pytest.raises(UpdateRejected, match="update of ada for round 1 is already folded"):
        aggregator.fold(partial, updates(("ada", 2))[0])
    assert len(partial.updates) == 1
