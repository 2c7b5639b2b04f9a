"""The round machine of an edge: what it holds, sends up, sends again and forgets."""
