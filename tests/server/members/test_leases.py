"""Leases end a time after the last sign of life."""

from fedcore.server.members.leases import Leases


def test_a_lease_runs_out_its_time_after_the_last_sign_of_life() -> None:
    leases: Leases[str] = Leases()
    leases.renew("ada", 0.0)
    leases.renew("bob", 1.0)
    assert leases.expired(2.5, 3.0) == [] and leases.expired(3.0, 3.0) == ["ada"]
    leases.renew("ada", 3.0)
    assert leases.expired(4.0, 3.0) == ["bob"] and "bob" in leases
    leases.end("bob")
    leases.end("bob")
    assert leases.expired(4.0, 3.0) == [] and "bob" not in leases
