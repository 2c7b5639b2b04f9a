"""A server as a process: background tasks, listening, returning memory, the garbage collector."""
