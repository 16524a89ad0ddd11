"""The engine process's entry: `python -m gptj_demo.engine SOCKET`; see `client.backends.local`."""

import sys

from gptj_demo.signals import end_with_parent, ignore_stop_signals

if __name__ == "__main__":
    # Terminals and service managers signal the whole process group. The web process decides when
    # to stop; closing its socket ends this process. Set before importing torch, which is slow.
    ignore_stop_signals()
    end_with_parent()
    from gptj_demo.engine.loop import main

    main(int(sys.argv[1]))
