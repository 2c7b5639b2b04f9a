"""The round machine of an edge: what it folds, sends up, sends again and drops."""
