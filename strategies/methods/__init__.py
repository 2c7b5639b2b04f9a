"""One published method per file: its citation, the settings that it fixes, and those that it leaves open."""
