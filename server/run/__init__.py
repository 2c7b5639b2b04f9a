"""A run as a folder: configuration, ledger, journal, records, summary, and the checks before it begins."""
