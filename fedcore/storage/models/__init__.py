"""Base models and data sets on disk: where they come from, what is in them, what they are fingerprinted by."""
