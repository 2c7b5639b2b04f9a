"""The run configuration as values, and as TOML text."""
