"""What a configured run needs, and whether it can begin: facts told before any process starts. Nothing here trains."""
