"""Content-addressed blobs on disk: their names, the store, resumable writers."""
