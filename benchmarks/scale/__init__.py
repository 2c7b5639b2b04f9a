"""What a million devices would need, computed from measured unit costs; docs/scale.md shows it."""
