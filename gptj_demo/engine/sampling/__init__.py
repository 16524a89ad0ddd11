"""From logits to tokens: the controls, the draw, and the log-probabilities."""
