"""Bundling aggregators: one published rule per file."""
