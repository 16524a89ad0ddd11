"""The records of a generation, as the page receives them."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]


def said(text: str, **more: Any) -> dict[str, Any]:
    """The record of some words of a completion."""
    return {
        "event": "text",
        "index": 0,
        "text": text,
        "tokens": 1,
        "total": 1,
        "rate": None,
        **more,
    }


def ended(**more: Any) -> dict[str, Any]:
    """The record that ends a completion and its request."""
    return {
        "event": "finished",
        "index": 0,
        "last": True,
        "reason": "length",
        "message": "Done.",
        "prompt_tokens": 1,
        "completion_tokens": 1,
        "seed": 1,
        "mean_logprob": None,
        "filtered_away": 0,
        "total": 1,
        "rate": None,
        **more,
    }


def started(**more: Any) -> Record:
    return {
        "event": "started",
        "prompt_tokens": 1,
        "dropped_tokens": 0,
        "healed": None,
        "n": 1,
        "candidates": 1,
        **more,
    }


def alternative(text: str, logprob: float, sampled: float | None, **more: Any) -> list[Any]:
    """As the page gets it; see gptj_demo/ui/tokens.py."""
    return [more.get("token_id", 2), text, more.get("kind", 0), logprob, sampled,
            more.get("removed_by")]  # fmt: skip


def token(text: str, logprob: float | None = -1.0, **more: Any) -> list[Any]:
    """As the page gets it; see gptj_demo/ui/tokens.py."""
    known = logprob is not None
    return [
        more.get("token_id", 1),
        text,
        more.get("kind", 0),
        more.get("length", len(text)),
        logprob,
        more.get("sampled_logprob", -0.5) if known else None,
        more.get("rank", 1) if known else None,
        more.get("filtered_away", False),
        more.get("alternatives", []),
    ]


def tokens(*given: list[Any], index: int = 0) -> Record:
    return {"event": "tokens", "index": index, "tokens": list(given)}
