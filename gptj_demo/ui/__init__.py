"""The page: one file a tab, one for each component of our own, and the theme.

Importing Gradio writes an interface file (`.pyi`) beside the source of every component, each time:
half of the seconds that the import takes, and files in our tree that nobody asked for. Where a
class's source is not to be found Gradio leaves that out, so for the time of the import it is not.
"""

import inspect
from typing import Any, NoReturn
from unittest.mock import patch


def _no_source(_: Any) -> NoReturn:
    raise OSError("not looked for while Gradio is imported")


with patch.object(inspect, "getfile", _no_source):
    import gradio.component_meta

gradio.component_meta.create_or_modify_pyi = lambda *_: None
