"""`app.py` as on a ZeroGPU Space, with leases long enough for a busy machine."""

from __future__ import annotations

import sys

import app
from gptj_demo.client.backends import leases

if __name__ == "__main__":
    leases.SHORTEST = leases.LONGEST = int(sys.argv.pop(1))
    app.main()
