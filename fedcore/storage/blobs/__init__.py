"""Content-addressed blobs on disk: names, the store, resumable writers."""
