"""What all tests share."""

import os

# Tiny models gain nothing from a second thread, and threads that wait for each other lose much
# where the tests share their cores. Set before torch is imported; the engine processes inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
