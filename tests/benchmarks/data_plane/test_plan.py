"""The plan: what stands beside what, and what the flags leave out."""

import itertools

from benchmarks.data_plane.plan import FLWR_FLEETS, KB, MB, Choice, planned


def test_a_whole_run_has_every_case_the_goals_speak_of():
    made = planned(Choice())
    ours = {
        (measurement.case.devices, measurement.case.payload_bytes, measurement.case.tiers, measurement.case.tls)
        for measurement in made
        if measurement.section == "ours"
    }
    for devices, size in [
        *((devices, size) for devices in (2, 10, 50) for size in (KB, 10 * MB, 100 * MB)),
        (2, 500 * MB),
    ]:
        for tiers in (1, 2):
            for tls in (True, False):
                assert (devices, size, tiers, tls) in ours
    assert [
        (measurement.case.devices, measurement.case.payload_bytes)
        for measurement in made
        if measurement.section == "flwr"
    ] == list(FLWR_FLEETS)
    assert made[-1].section == "idle" and made[-1].case.cohort == 100


def test_what_is_compared_is_measured_one_after_the_other():
    fleets = [
        (measurement.case.devices, measurement.case.payload_bytes)
        for measurement in planned(Choice())
        if measurement.section != "idle"
    ]
    assert sum(before != after for before, after in itertools.pairwise(fleets)) + 1 == len(set(fleets))


def test_a_quick_run_is_small_and_without_flwr():
    made = planned(Choice(quick=True))
    assert {measurement.section for measurement in made} == {"ours", "raw_grpc", "raw_socket"}
    assert {
        (measurement.case.devices, measurement.case.payload_bytes, measurement.case.tiers) for measurement in made
    } == {
        (2, KB, 1),
        (2, 10 * MB, 1),
    }


def test_flags_select():
    made = planned(Choice(sections=["ours"], devices=[10], payloads=[100 * MB], tiers=[2], tls=[True], rounds=7))
    assert [
        (measurement.section, measurement.case.rounds, measurement.case.tiers, measurement.case.tls)
        for measurement in made
    ] == [("ours", 7, 2, True)]
