"""Settings of all tests: one torch thread, for spinning threads on shared cores cost several times the work."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
