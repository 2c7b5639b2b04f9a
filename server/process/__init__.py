"""A server as a process: background tasks, listening, memory that leaves, the collector."""
