"""The page: one file per tab, one per custom component, and the theme.

At each import Gradio writes an interface file (`.pyi`) beside the source of every component. That
takes half of the import time and leaves files in our tree. Gradio skips classes whose source file
it cannot find, so the source is hidden during the import.
"""

import inspect
from typing import Any, NoReturn
from unittest.mock import patch


def _no_source(_: Any) -> NoReturn:
    raise OSError("not looked for while Gradio is imported")


with patch.object(inspect, "getfile", _no_source):
    import gradio.component_meta

gradio.component_meta.create_or_modify_pyi = lambda *_: None
