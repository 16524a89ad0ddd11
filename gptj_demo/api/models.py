"""The model's id in the API, and the other names that requests can give it."""

from __future__ import annotations

from pathlib import Path

from gptj_demo.protocol import ModelInfo

GPT_J = "EleutherAI/gpt-j-6b"
SAMPLE = "sample-model"


def model_id(model: ModelInfo, setting: str) -> str:
    """The id of the loaded model; `setting` is the deployer's `model`."""
    if model.is_sample:
        return SAMPLE
    if model.served is not None:
        return model.name
    is_gpt_j = setting.lower() in ("auto", GPT_J.lower()) and not model.adapters
    return GPT_J if is_gpt_j else model.name


def answers_to(asked: str, model: ModelInfo, setting: str) -> bool:
    """Whether a request that names `asked` means the loaded model, in any letter case.

    Its names are its id, the name on the page, the setting, and the last part of a hub id or path.
    """
    names = {model_id(model, setting), model.name, setting}
    names |= {Path(name).name for name in names}
    return asked.casefold() in {name.casefold() for name in names}
