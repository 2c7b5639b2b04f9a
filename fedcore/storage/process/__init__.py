"""A process among others: who it is, whether it is well, when its parent has gone, which port is free."""
