"""What parties exchange: assignments, updates, outcomes, profiles; and the seams between parts."""
