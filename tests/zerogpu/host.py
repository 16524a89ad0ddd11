"""`app.py` as on a ZeroGPU Space, with leases long enough for a busy machine.

python -m tests.zerogpu.host SECONDS fake|real FLAGS...
"""

from __future__ import annotations

import sys

import app
from gptj_demo.client.backends import leases

if __name__ == "__main__":
    leases.SHORTEST = leases.LONGEST = int(sys.argv.pop(1))
    if sys.argv.pop(1) == "real":
        from tests.zerogpu.real import prepare

        prepare()
    app.main()
