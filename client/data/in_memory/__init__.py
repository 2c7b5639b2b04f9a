"""Rows that a program hands over instead of a file: labelled texts, and rows of models that write."""
