from dataclasses import replace

from fedcore.core.codec.negotiation import PARTS
from fedcore.strategies.policy.codec_choice import codec_event, codec_of


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
