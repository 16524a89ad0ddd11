"""The controls' effects, one class a control: every `Control` with a name in this folder."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

from gptj_demo.engine.sampling.control import Control


def _found() -> Iterator[type[Control]]:
    for module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        for _, value in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(value, Control) and "name" in vars(value):
                yield value


EFFECTS: dict[str, type[Control]] = {control.name: control for control in _found()}
"""By the control's name in the table."""
