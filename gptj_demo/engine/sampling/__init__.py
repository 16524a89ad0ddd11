"""From logits to tokens: the controls, the draw, and the log-probabilities."""

from gptj_demo.engine.sampling.batch import Controlled, Sampled, SamplerBatch
from gptj_demo.engine.sampling.row import RowSampler
from gptj_demo.engine.sampling.trace import score

__all__ = ["Controlled", "RowSampler", "Sampled", "SamplerBatch", "score"]
