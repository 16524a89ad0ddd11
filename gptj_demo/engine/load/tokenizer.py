"""Loads a checkpoint's tokenizer and its beginning, end-of-text and padding tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, GenerationConfig, GPTJConfig

from gptj_demo.engine.load.errors import Refusal, last_line
from gptj_demo.engine.load.hub import Report, fetch_small_files
from gptj_demo.engine.load.plan import Plan
from gptj_demo.protocol import TokenizerReady
from gptj_demo.texts import Message, message

EXTRA_TOKEN = re.compile(r"<\|extratoken_\d+\|>")
"""Names that GPT-J's tokenizer gives to the padding rows of its embedding; not in any text."""

IGNORED = (
    "bad_words_ids",
    "begin_suppress_tokens",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "min_length",
    "min_new_tokens",
    "sequence_bias",
)
"""Fields of generation_config.json that change `generate`'s output and are not applied here."""


def load_tokenizer(plan: Plan, report: Report) -> tuple[TokenizerReady, Message | None]:
    """The tokenizer with its special ids, and a note on fields that are not applied.

    Raises `Refusal`.
    """
    report(message("status.looking", source=plan.source), None)
    folder = Path(plan.source)
    if not folder.is_dir():
        folder = fetch_small_files(plan.source, plan.revision)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        backend = tokenizer.backend_tokenizer
    except Exception as error:  # it raises undocumented kinds; all mean the same here
        problem = last_line(error)
        raise Refusal(f"The tokenizer of {plan.source} cannot be read: {problem}.") from error
    backend.no_truncation()  # a stored length would truncate prompts silently
    backend.no_padding()
    generation = _read_generation_config(folder, plan.config)
    text_ids = {
        token_id
        for token, token_id in backend.get_vocab().items()
        if token_id < plan.config.vocab_size and not EXTRA_TOKEN.fullmatch(token)
    }
    text_ids -= set(generation.suppress_tokens or ())  # `generate` never samples these
    if not text_ids:
        raise Refusal(f"The tokenizer of {plan.source} has no token that the model knows.")
    size = max(text_ids) + 1
    eos_token_ids = _first_usable(
        text_ids, generation.eos_token_id, plan.config.eos_token_id, tokenizer.eos_token_id
    )
    bos_token_ids = _first_usable(
        text_ids, tokenizer.bos_token_id, generation.bos_token_id, plan.config.bos_token_id
    )
    beginning = bos_token_ids or eos_token_ids
    if not beginning:
        raise Refusal(
            f"The tokenizer of {plan.source} has no token to begin or end a text with (bos_token, "
            "eos_token): name one in its tokenizer_config.json."
        )
    ready = TokenizerReady(
        tokenizer_json=backend.to_str(),
        context_length=plan.config.n_positions,
        vocabulary_size=size,
        bos_token_id=beginning[0],
        eos_token_ids=eos_token_ids,
        unused_token_ids=tuple(sorted(set(range(size)) - text_ids)),
    )
    return ready, _describe_ignored(generation)


def _read_generation_config(folder: Path, config: GPTJConfig) -> GenerationConfig:
    """The fields of transformers' `generation_config`: from its file, or else from the config."""
    if (folder / "generation_config.json").is_file():
        try:
            return GenerationConfig.from_pretrained(folder, local_files_only=True)
        except (OSError, TypeError, ValueError) as error:
            raise Refusal(
                f"{folder.name} has a generation_config.json that cannot be read: "
                f"{last_line(error)}."
            ) from None
    return GenerationConfig.from_model_config(config)


def _describe_ignored(generation: GenerationConfig) -> Message | None:
    """The fields that `generate` would apply and the playground does not."""
    names = [name for name in IGNORED if getattr(generation, name, None)]
    return message("why.not_applied", fields=", ".join(names)) if names else None


def _first_usable(text_ids: Iterable[int], *candidates: Any) -> tuple[int, ...]:
    """The ids of the first candidate (an id, a list of ids or None) with valid ids."""
    for candidate in candidates:
        ids = candidate if isinstance(candidate, list | tuple) else [candidate]
        usable = tuple(dict.fromkeys(i for i in ids if isinstance(i, int) and i in text_ids))
        if usable:
            return usable
    return ()
