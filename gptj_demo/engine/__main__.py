"""The engine process's entry: `python -m gptj_demo.engine SOCKET`, started by `worker.py`."""

import sys

from gptj_demo.engine.loop import main

if __name__ == "__main__":
    main(int(sys.argv[1]))
