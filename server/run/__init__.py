"""A run as a folder: configuration, ledger, journal, records, summary, what ends it before it begins."""
