"""Unit costs that are easy to reckon with."""

from benchmarks.scale.costs import RosterCosts, UnitCosts

COSTS = UnitCosts(
    join_cpu_s=1e-3,
    beat_cpu_s=1e-3,
    member_mb=0.1,
    process_mb=100.0,
    client_round_cpu_s=1e-3,
    mb_cpu_s=1e-2,
    update_share=0.5,
    roster=(
        RosterCosts(registered=1_000, cohort=100, alive_s=1e-3, joined_s=2e-3, turn_s=1.0),
        RosterCosts(registered=10_000, cohort=100, alive_s=1e-2, joined_s=2e-2, turn_s=10.0),
    ),
    event_bytes=500.0,
    row_bytes=100.0,
    ledger_bytes=1_000.0,
    state_bytes=10.0,
    joined_bytes=300.0,
    leaf_bytes=128.0,
)
