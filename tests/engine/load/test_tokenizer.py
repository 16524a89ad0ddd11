"""The tokenizer as the web process gets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from gptj_demo.engine.load import (
    Refusal,
    load_tokenizer,
    make_plan,
)
from gptj_demo.settings import Settings
from tests.engine.checkpoints import (
    EMBEDDING_ROWS,
    END_OF_TEXT,
    TEXT_TOKENS,
    copy_checkpoint,
    make_checkpoint,
)
from tests.engine.load.conftest import ignore


@pytest.mark.parametrize("tokenizer_layout", ["json", "files"])
def test_the_tokenizer_crosses_as_text_with_its_real_size(
    tokenizer_layout: Any, tmp_path: Path, machine: Any
) -> None:
    folder = make_checkpoint(tmp_path, tokenizer_layout=tokenizer_layout)
    plan = make_plan(Settings(model=str(folder)))
    ready, note = load_tokenizer(plan, ignore)
    tokenizer = Tokenizer.from_str(ready.tokenizer_json)
    assert note is None
    assert ready.unused_token_ids == ()
    assert ready.vocabulary_size == TEXT_TOKENS  # the rows that pad the embedding are left out
    assert tokenizer.get_vocab_size() == EMBEDDING_ROWS
    assert (ready.bos_token_id,) == ready.eos_token_ids
    assert ready.bos_token_id == tokenizer.token_to_id(END_OF_TEXT) == TEXT_TOKENS - 1
    story = "Once upon a time, 🙂 — naïve\n\n  twice"
    ids = tokenizer.encode(story).ids
    assert max(ids) < TEXT_TOKENS - 1  # nothing is added at either end
    assert tokenizer.decode(ids) == story


def test_a_stored_length_does_not_cut_prompts(tiny: Path, tmp_path: Path, machine: Any) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))
    ready, _ = load_tokenizer(make_plan(Settings(model=str(folder))), ignore)
    stored = Tokenizer.from_str(ready.tokenizer_json)
    assert stored.decode(stored.encode("a" * 50).ids) == "a" * 50


def test_a_tokenizer_that_cannot_be_read_is_refused(
    tiny: Path, tmp_path: Path, machine: Any
) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(Refusal, match="tokenizer"):
        load_tokenizer(make_plan(Settings(model=str(folder))), ignore)
