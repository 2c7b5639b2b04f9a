from dataclasses import replace

import pytest

from fedcore.core.codec.negotiation import PARTS
from fedcore.core.contract.distillation import Distillation
from fedcore.core.cost.teacher import teacher_flops, teacher_memory_mb
from fedcore.core.model.geometry import Counts
from fedcore.strategies.policy.cost import round_cost
from fedcore.strategies.policy.training_spec import codec_event, codec_of
from fedcore.strategies.table import make_strategy
from tests.strategies.conftest import GEOMETRY, HEAD


@pytest.fixture
def taught(config):
    training = replace(config.training, distill=0.5, distill_temperature=2.0)
    strategy = replace(config.strategy, bandit="fixed", ranks=(4,))
    return replace(config, training=training, strategy=strategy)


def told(config, roster, play):
    _, plans, _ = play(make_strategy(config, GEOMETRY, HEAD), roster, 12)
    return [each for plan, _ in plans for each in plan.assignments]


def test_cut_devices_learn_more_from_their_dense_model_from_round_to_round(taught, roster, play):
    given = told(taught, roster, play)
    for each in given:
        cut = each.keep_set.counts != Counts(8, 64)
        expected = Distillation(weight=0.5, temperature=2.0, mix=(each.round - 2) / 10) if cut else None
        assert each.training.distillation == expected
    assert {each.round for each in given if each.training.distillation} >= set(range(4, 13))


def test_off_is_off(config, roster, play):
    assert all(each.training.distillation is None for each in told(config, roster, play))


def test_who_has_no_room_for_two_models_goes_without(taught, roster, play):
    spec = make_strategy(taught, GEOMETRY, HEAD).spec
    counts = min(each.keep_set.counts for each in told(taught, roster, play))
    needed = teacher_memory_mb(round_cost(taught, spec).step(counts, 4))
    for share, expected in ((0.5, False), (4.0, True)):
        limited = tuple(replace(each, memory_mb=needed * share) for each in roster)
        given = [each for each in told(taught, limited, play) if each.keep_set.counts == counts]
        assert {each.training.distillation is not None for each in given} == {expected}


def test_the_cost_model_charges_cut_devices_for_the_teacher(taught, config, roster):
    spec = make_strategy(taught, GEOMETRY, HEAD).spec
    with_teacher, without = round_cost(taught, spec), round_cost(config, spec)
    assert with_teacher.seconds(roster[0], Counts(8, 64), 4) == without.seconds(roster[0], Counts(8, 64), 4)
    difference = with_teacher.seconds(roster[0], Counts(4, 32), 4) - without.seconds(roster[0], Counts(4, 32), 4)
    flops = teacher_flops(with_teacher.step(Counts(4, 32), 4))
    assert difference == pytest.approx(10 * flops / without.flops_per_s * roster[0].slowdown)


def with_codecs(config, codec, **classes):
    made = tuple(replace(each, codec=classes.get(each.name)) for each in config.classes)
    return replace(config, training=replace(config.training, codec=codec), classes=made)


def test_a_device_gets_its_classes_codec_or_what_it_can_encode(config, roster):
    chosen = with_codecs(config, "int8+zstd", tx2="topk:0.05+int4")
    newest = replace(roster[0], device_class="nx", codecs=PARTS)
    assert codec_of(chosen, newest) == "int8+zstd" and codec_event(chosen, newest, 3) is None
    assert codec_of(chosen, replace(newest, device_class="tx2")) == "topk:0.05+int4"
    first = replace(newest, codecs=())
    assert codec_of(chosen, first) == "bf16+zstd"
    assert codec_event(chosen, first, 3) == {
        "event": "codec",
        "round": 3,
        "device": first.name,
        "wanted": "int8+zstd",
        "codec": "bf16+zstd",
    }
    assert codec_of(chosen, replace(newest, codecs=("int4",))) == "identity"


def test_a_plan_gives_every_device_its_own_codec_and_tells_who_got_another(build, roster, config):
    classes = (replace(config.classes[0], codec="int8"), *config.classes[1:])
    strategy = replace(build(), config=replace(config, classes=classes))
    able = [replace(each, device_class="agx", codecs=PARTS if each.name == "a1" else ()) for each in roster]
    _, plan = strategy.plan(strategy.start(), able, 1)
    codecs = {each.device: each.training.codec for each in plan.assignments}
    assert codecs.pop("a1") == "int8" and set(codecs.values()) == {"bf16+zstd"}
    told = [each["device"] for each in plan.events if each["event"] == "codec"]
    assert told == sorted(codecs)
