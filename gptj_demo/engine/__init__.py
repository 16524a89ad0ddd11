"""The engine process: loads GPT-J and decodes for all streams. Only this package imports torch."""

from __future__ import annotations

import os

from gptj_demo.software import numba_cache_folder

# numba reads it when it is imported
if (_folder := numba_cache_folder()) is not None:
    os.environ["NUMBA_CACHE_DIR"] = _folder
