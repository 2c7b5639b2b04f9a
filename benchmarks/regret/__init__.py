"""How far each bandit stays behind the best arm, on fleets whose truth is known."""
