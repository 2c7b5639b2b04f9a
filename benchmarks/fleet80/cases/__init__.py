"""The lines of the benchmark: tracks, variants and the cases they make."""
