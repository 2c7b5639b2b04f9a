"""Rows and labels: every reader of files, folders and hubs, and the shard that a device is given.

Nothing here trains or talks to a parent.
"""
