"""Finds a checkpoint, plans precision and memory, and loads it."""

from gptj_demo.engine.load.errors import Refusal
from gptj_demo.engine.load.memory import memory_needed, parameter_count, weight_bytes
from gptj_demo.engine.load.plan import SAMPLE_MODEL, Plan, make_plan
from gptj_demo.engine.load.tokenizer import check_draft, load_tokenizer
from gptj_demo.engine.load.weights import load_model, make_stand_in, ran_out_of_memory

__all__ = [
    "SAMPLE_MODEL",
    "Plan",
    "Refusal",
    "check_draft",
    "load_model",
    "load_tokenizer",
    "make_plan",
    "make_stand_in",
    "memory_needed",
    "parameter_count",
    "ran_out_of_memory",
    "weight_bytes",
]
