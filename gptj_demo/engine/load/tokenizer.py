"""Loads a checkpoint's tokenizer and its beginning, end-of-text and padding tokens."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from transformers import AutoTokenizer

from gptj_demo.engine.load.configuration import wrong_ids
from gptj_demo.engine.load.errors import Refusal, last_line
from gptj_demo.engine.load.folder import file_names, read_object, wrong_value
from gptj_demo.engine.load.hub import Report, fetch_small_files
from gptj_demo.engine.load.plan import Plan
from gptj_demo.engine.load.tokenizer_files import write_checked_files
from gptj_demo.protocol import TokenizerReady
from gptj_demo.texts import Message, message
from gptj_demo.tokenization import Vocabulary, token_bytes

SHORT_TEXT = "Once upon a time"
"""Tokenized once, to see that the tokenizer works."""

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


class Sizes(Protocol):
    """The fields of a configuration that the tokenizer must fit."""

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding."""

    @property
    def n_positions(self) -> int:
        """Tokens of the context."""

    @property
    def bos_token_id(self) -> int | None:
        """The token that begins a text."""

    @property
    def eos_token_id(self) -> int | list[int] | None:
        """The tokens that end a text."""


class Origin(Protocol):
    """Where a tokenizer is: a folder, or a hub id with a revision. A plan is one."""

    @property
    def source(self) -> str:
        """The folder or hub id."""

    @property
    def revision(self) -> str | None:
        """The revision of the hub id."""

    @property
    def config(self) -> Sizes:
        """The model's sizes."""


def load_tokenizer(plan: Origin, report: Report) -> tuple[TokenizerReady, Message | None]:
    """The tokenizer with its special ids, and a note on fields that are not applied.

    Raises `Refusal`.
    """
    report(message("status.looking", source=plan.source), None)
    folder = Path(plan.source)
    if not folder.is_dir():
        folder = fetch_small_files(plan.source, plan.revision)
    tokenizer = _read_tokenizer(plan, folder)
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()  # a stored length would truncate prompts silently
    backend.no_padding()
    generation = _read_generation_fields(plan.source, folder)
    text_ids = {
        token_id
        for token, token_id in backend.get_vocab().items()
        if token_id < plan.config.vocab_size and not EXTRA_TOKEN.fullmatch(token)
    }
    text_ids -= set(generation.get("suppress_tokens") or ())  # `generate` never samples these
    if not text_ids:
        raise Refusal(f"The tokenizer of {plan.source} has no token that the model knows.")
    size = max(text_ids) + 1
    eos_token_ids = _first_usable(
        text_ids, generation.get("eos_token_id"), plan.config.eos_token_id, tokenizer.eos_token_id
    )
    bos_token_ids = _first_usable(
        text_ids, tokenizer.bos_token_id, generation.get("bos_token_id"), plan.config.bos_token_id
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
    _try(plan.source, ready)
    return ready, _describe_ignored(generation)


def check_draft(plan: Plan, tokenizer: TokenizerReady, report: Report) -> None:
    """Raise `Refusal` if the plan's draft model has other tokens than `tokenizer`.

    It may have more: CodeGen's has names for runs of spaces where GPT-J's has unused ids.
    """
    draft = plan.draft
    if draft is None:
        return
    theirs = token_bytes(load_tokenizer(draft, report)[0].tokenizer_json)
    unused = set(tokenizer.unused_token_ids)
    ours = token_bytes(tokenizer.tokenizer_json)[: tokenizer.vocabulary_size]
    theirs = theirs[: draft.config.vocab_size]
    for token_id, data in enumerate(ours):
        if token_id not in unused and theirs[token_id : token_id + 1] != [data]:
            raise Refusal(
                f"The draft model {draft.name} has another vocabulary than {plan.name} (token "
                f"{token_id} differs): set draft to a model with the same tokenizer."
            )


def _read_tokenizer(plan: Origin, folder: Path) -> Any:
    """transformers' tokenizer; raises `Refusal`."""
    try:
        with tempfile.TemporaryDirectory(prefix="gptj-tokenizer-") as checked:
            write_checked_files(plan.source, folder, Path(checked), plan.config.vocab_size)
            return _read_checked(plan.source, folder, checked)
    except OSError as error:  # those of reading are refusals already
        raise Refusal(
            f"The tokenizer of {plan.source} cannot be copied to a folder for temporary files: "
            f"{last_line(error)}. Free some space there, or set TMPDIR to a folder that can be "
            "written."
        ) from error


def _read_checked(source: str, folder: Path, checked: str) -> Any:
    try:
        return AutoTokenizer.from_pretrained(
            checked, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # it raises undocumented kinds; all mean the same here
        problem = last_line(error).replace(checked, str(folder))
        raise Refusal(f"The tokenizer of {source} cannot be read: {problem}.") from error


def _try(source: str, ready: TokenizerReady) -> None:
    """Raise `Refusal` if the web process could not use this tokenizer."""
    try:
        vocabulary = Vocabulary.of(ready)
        token_ids = vocabulary.encode_prompt(SHORT_TEXT)
        unknown = [token_id for token_id in token_ids if token_id not in vocabulary]
        problem = None
        if not token_ids:
            problem = "it makes no token of a text"
        elif unknown:
            problem = f"it makes a token {unknown[0]}, which the model does not have"
        else:
            vocabulary.tokens(token_ids, SHORT_TEXT)
    except Exception as error:
        problem = last_line(error)
    if problem is not None:
        raise Refusal(f"The tokenizer of {source} cannot be used: {problem}.")


def _read_generation_fields(source: str, folder: Path) -> dict[str, Any]:
    """The fields of generation_config.json or, if there is none, of config.json, which held them
    before; raises `Refusal`."""
    name = "generation_config.json"
    if name not in file_names(folder):
        name = "config.json"
    values = read_object(source, folder, name)
    for field in ("bos_token_id", "eos_token_id", "suppress_tokens"):
        problem = wrong_ids(field, values.get(field))
        if problem is not None:
            raise wrong_value(source, name, problem)
    return values


def _describe_ignored(generation: dict[str, Any]) -> Message | None:
    """The fields that `generate` would apply and the playground does not."""
    names = [name for name in IGNORED if generation.get(name)]
    return message("why.not_applied", fields=", ".join(names)) if names else None


def _first_usable(text_ids: Iterable[int], *candidates: Any) -> tuple[int, ...]:
    """The ids of the first candidate (an id, a list of ids or None) with valid ids."""
    for candidate in candidates:
        ids = candidate if isinstance(candidate, list | tuple) else [candidate]
        usable = tuple(dict.fromkeys(i for i in ids if isinstance(i, int) and i in text_ids))
        if usable:
            return usable
    return ()
