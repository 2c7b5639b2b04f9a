"""A base model with a head and adapters: load, attach, cut, merge, export."""
