"""The values that parties exchange (assignments, updates, outcomes, profiles), and the protocols between parts."""
