"""One published method per file: its citation, what it fixes, what it leaves to the configuration."""
