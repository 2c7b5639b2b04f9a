"""The command `fedcore`: options in, one call, a line or two out. No logic."""
