"""From logits to tokens: the controls, the draw, and the log-probabilities."""

from gptj_demo.engine.sampling.batch import MOST_MEMORY, Controlled, Sampled, SamplerBatch
from gptj_demo.engine.sampling.controls.allowed_tokens import allowed_of
from gptj_demo.engine.sampling.expansion import Children, expand
from gptj_demo.engine.sampling.guides import Guide, Guides, is_guided
from gptj_demo.engine.sampling.row import RowSampler
from gptj_demo.engine.sampling.trace import score

__all__ = [
    "MOST_MEMORY",
    "Children",
    "Controlled",
    "Guide",
    "Guides",
    "RowSampler",
    "Sampled",
    "SamplerBatch",
    "allowed_of",
    "expand",
    "is_guided",
    "score",
]
