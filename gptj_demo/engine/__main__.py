"""The engine process's entry: `python -m gptj_demo.engine SOCKET`; see `client.backends.local`."""

import sys

from gptj_demo.signals import ignore_stop_signals

if __name__ == "__main__":
    # Terminals and service managers signal the whole group. The web process decides when to stop,
    # and its end closes the socket, which ends this process. Before torch is loaded: that takes
    # seconds.
    ignore_stop_signals()
    from gptj_demo.engine.loop import main

    main(int(sys.argv[1]))
