"""What a million devices would need, computed from measured unit costs; docs/concepts/scale.md shows it."""
