from dataclasses import replace

import pytest

from fedcore.core.cost.training_step import StepShape
from fedcore.core.model.geometry import Counts
from fedcore.core.model.trained_part import EVERYTHING, Factors, TrainedPart
from fedcore.strategies.policy.cost import REFERENCE_FLOPS_PER_S, round_cost


def test_memory_is_the_model_of_the_device(build, config, geometry):
    strategy = build()
    step = StepShape(
        geometry=geometry,
        kept=Counts(4, 32),
        rank=8,
        targets=geometry.modules,
        batch_size=4,
        max_length=16,
        dtype_bytes=4,
    )
    assert round_cost(config, strategy.spec).memory_mb(Counts(4, 32), 8) == step.memory_mb(num_labels=3)


def test_seconds_are_download_steps_and_upload(build, config, geometry, roster):
    cost = round_cost(config, build().spec)
    profile = replace(roster[0], slowdown=2.0, uplink_mbps=1.0, downlink_mbps=2.0)
    step = StepShape(
        geometry=geometry, kept=Counts(4, 32), rank=8, targets=geometry.modules, batch_size=4, max_length=16
    ).seconds(REFERENCE_FLOPS_PER_S, slowdown=2.0)
    dense = 2 * 8 * (4 * 64 + 2 * 96)  # layers x rank x (rows + columns)
    held = 2 * 8 * (4 * (32 + 16) + 2 * (32 + 32))
    expected = dense * 4 * 8 / 2e6 + 10 * step + held * 2 * 8 / 1e6
    assert cost.seconds(profile, Counts(4, 32), 8) == pytest.approx(expected)


def test_a_part_uploads_less_and_takes_less_time_and_memory(build, config, roster):
    cost = round_cost(config, build().spec)
    profile = replace(roster[0], slowdown=2.0, uplink_mbps=1.0)
    part = TrainedPart(factors=Factors.B, first_layer=1)
    link_only = replace(profile, slowdown=1.0)
    values = 8 * (4 * 32 + 64 + 32)  # one of two layers: rank x rows
    whole = 2 * 8 * (4 * 64 + 2 * 96)
    steps = 10 * (cost.estimate(Counts(8, 64), 8, part).seconds - cost.estimate(Counts(8, 64), 8, EVERYTHING).seconds)
    saved = cost.seconds(link_only, Counts(8, 64), 8) - cost.seconds(link_only, Counts(8, 64), 8, part=part)
    assert saved == pytest.approx((whole - values) * 2 * 8 / 1e6 - steps)
    assert cost.memory_mb(Counts(8, 64), 8, part) < cost.memory_mb(Counts(8, 64), 8)
    assert cost.memory_mb(Counts(8, 64), 8, EVERYTHING) == cost.memory_mb(Counts(8, 64), 8)


def test_a_bfloat16_base_and_other_codecs_are_counted(build, config):
    spec = build().spec
    half = round_cost(replace(config, model=replace(config.model, dtype="bfloat16")), spec)
    assert half.dtype_bytes == 2
    plain = round_cost(replace(config, training=replace(config.training, codec="identity")), spec)
    assert plain.upload_value_bytes == 4
    fine = round_cost(replace(config, training=replace(config.training, codec="ef+topk:0.1+int8:128+zstd")), spec)
    assert fine.upload_value_bytes == pytest.approx(0.1 * (1 + 1 + 4 / 128), rel=0.05)  # positions, integers, scales


def test_the_codec_of_a_class_decides_its_upload(build, config, roster):
    classes = tuple(replace(each, codec="identity" if each.name == "agx" else None) for each in config.classes)
    cost, plain = round_cost(replace(config, classes=classes), build().spec), round_cost(config, build().spec)
    agx = replace(roster[0], device_class="agx", uplink_mbps=0.001)
    other = replace(agx, device_class="nx")
    assert cost.seconds(agx, Counts(8, 64), 8) > 1.9 * plain.seconds(agx, Counts(8, 64), 8)
    assert cost.seconds(other, Counts(8, 64), 8) == plain.seconds(other, Counts(8, 64), 8)
