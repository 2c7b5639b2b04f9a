"""Integer sums that do not depend on the order of their terms: fixed point, rank groups, members, the wire."""
