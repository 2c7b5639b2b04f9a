"""The description of a method, and the parts that methods share; `fedcore.strategies.compose` builds the policy."""
