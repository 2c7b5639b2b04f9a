"""What a method states, and what several methods share; `fedcore.strategies.compose` builds the policy of it."""
