from benchmarks.scale.fleet import beats_per_s
from benchmarks.scale.limits import limits
from tests.benchmarks.scale.known import COSTS


def test_limits_come_in_the_order_in_which_devices_meet_them():
    found = limits(COSTS)
    roster = [limit.at for limit in found if limit.of == "devices"]
    assert roster == sorted(roster) and len(roster) == 7
    assert [limit.of for limit in found[len(roster) :]].count("devices") == 0


def test_a_limit_is_the_last_size_within_its_budget():
    alive = next(limit for limit in limits(COSTS) if limit.what.startswith("signs of life at the root"))
    assert beats_per_s(alive.at) * COSTS.alive_s(alive.at) <= 1
    assert beats_per_s(alive.at + 1) * COSTS.alive_s(alive.at + 1) > 1


def test_linear_limits_are_exact():
    found = {limit.what: limit.at for limit in limits(COSTS)}
    assert found["handshakes after a restart, no edges"] == 300_000
    assert found["memory for streams, no edges"] == 159_000
    assert found["the strategy's state in every commit"] == 10_000_000
    assert found["outcomes in one message of an edge"] == (4 << 20) // 128
    assert found["total weight of exact integer sums"] == 1 << 24
