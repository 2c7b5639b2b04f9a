"""How a method is put together: its statement, the policy out of its parts, what several methods share."""
