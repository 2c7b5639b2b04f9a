"""Rows as a model reads them: one encoder a file, and the table of all. Batches of them are training's part."""
