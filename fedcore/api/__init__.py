"""The front door: what `import fedcore` offers. Functions and values for users; every rule lives further in.

`fedcore/__init__.py` lists the names and loads them on first use. Nothing in the package imports this room, but for the
command line.
"""
