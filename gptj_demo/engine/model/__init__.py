"""GPT-J's forward pass: one interface (`base`), several paths, and the table that chooses one."""

from gptj_demo.engine.model.base import Batch, Chunk, ForwardModel, Report, Rows, Shape
from gptj_demo.engine.model.kv_cache import KVCache
from gptj_demo.engine.model.select import (
    Choice,
    Placement,
    UnfitBackend,
    build_model,
    choose_path,
    device_of,
    set_up_torch,
)

__all__ = [
    "Batch",
    "Choice",
    "Chunk",
    "ForwardModel",
    "KVCache",
    "Placement",
    "Report",
    "Rows",
    "Shape",
    "UnfitBackend",
    "build_model",
    "choose_path",
    "device_of",
    "set_up_torch",
]
