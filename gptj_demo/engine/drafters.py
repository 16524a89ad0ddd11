"""Starts speculation for a model: makes the drafters and measures what passes cost."""

from __future__ import annotations

import logging

import torch

from gptj_demo.engine.draft_model import DraftModel
from gptj_demo.engine.lookup import PromptLookup
from gptj_demo.engine.model import ForwardModel, KVCache
from gptj_demo.engine.speculation import Drafter, Speculation, measure_passes

logger = logging.getLogger(__name__)


def start_speculation(
    model: ForwardModel,
    cache: KVCache,
    draft: ForwardModel | None,
    vocabulary: int,
    unused: torch.Tensor | None,
) -> Speculation | None:
    """The speculation of a model by lookup and by a draft model; None if it cannot verify.

    `cache` is the model's and must be empty. Ids below `vocabulary` can be drafted, except
    `unused`.
    """
    if not model.verifies:
        return None
    passes = measure_passes(model, cache)
    logger.info("one more token in a pass costs %.2f of a pass of one", passes.row)
    drafters: list[Drafter] = [PromptLookup()]
    if draft is not None:
        drafter = DraftModel(draft, cache, vocabulary, unused, passes)
        logger.info("drafting a token costs %.2f of a pass of one", drafter.cost(1))
        drafters.append(drafter)
    return Speculation(drafters, passes.row)
