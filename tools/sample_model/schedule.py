"""What each training step uses: learning rate, window length and share of the simple corpus.

Training has two phases. The stable phase has a constant learning rate and no end, so it can be
continued in any later session. The cool-down has a length in tokens, chosen when it begins: the
learning rate falls to zero, the windows have the full context and the mixture turns to the simple
corpus.
"""

from __future__ import annotations

TOKENS_PER_STEP = 8192
WARM_UP_STEPS = 100
WINDOWS = ((0, 256), (16_000_000, 512))
"""From this many tokens on, windows of this length. Short windows cost less a token."""
STABLE_SHARE, FINAL_SHARE = 0.5, 0.85
"""Share of the simple corpus in the stable phase, and from the middle of the cool-down on."""


def learning_rate_factor(step: int, cool_down: float) -> float:
    """Return the factor of the learning rates: warm-up, constant, then linear to zero.

    `cool_down` is the part of the cool-down that is done, 0 in the stable phase.
    """
    return min(1.0, (step + 1) / WARM_UP_STEPS) * (1.0 - cool_down)


def window_length(seen: int, context: int, is_cooling: bool) -> int:
    """Return the tokens of a window after `seen` tokens of training."""
    longest = context if is_cooling else max(length for start, length in WINDOWS if seen >= start)
    return min(longest, context)


def simple_share(cool_down: float) -> float:
    """Return the share of windows that come from the simple corpus."""
    return STABLE_SHARE + (FINAL_SHARE - STABLE_SHARE) * min(1.0, 2.0 * cool_down)
