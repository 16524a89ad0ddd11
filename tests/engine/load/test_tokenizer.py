"""The tokenizer as the web process gets it."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from gptj_demo.engine.load import (
    Refusal,
    load_tokenizer,
    make_plan,
)
from gptj_demo.engine.load import tokenizer as tokenizer_module
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
def test_the_tokenizer_is_sent_as_json_with_its_real_vocabulary_size(
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


def test_truncation_and_padding_stored_in_the_tokenizer_are_ignored(
    tiny: Path, tmp_path: Path, machine: Any
) -> None:
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


def change(folder: Path, file: str, **values: Any) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("file", "values", "said"),
    [
        ("tokenizer.json", {"model": {"type": "WordLevel", "vocab": {}}}, "GPT-J's is of type BPE"),
        ("tokenizer.json", {"model": {"vocab": {"a": 320}, "merges": []}}, "has the id 320"),
        ("tokenizer.json", {"added_tokens": [{"id": 2**32, "content": "x"}]}, "has the id"),
        ("tokenizer_config.json", {"tokenizer_class": "BertTokenizer"}, "tokenizer_class"),
        ("tokenizer_config.json", {"bos_token": {"content": 7}}, "bos_token is an object"),
        ("config.json", {"tokenizer_class": 7}, "tokenizer_class is 7"),
    ],
)
def test_a_wrong_value_is_refused_with_its_file_and_name(
    file: str, values: dict[str, Any], said: str, tiny: Path, tmp_path: Path, machine: Any
) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy")
    change(folder, file, **values)
    with pytest.raises(Refusal, match=f"{file} of .* has a wrong value: .*{said}"):
        load_tokenizer(make_plan(Settings(model=str(folder))), ignore)


@pytest.mark.parametrize("field", ["vocab_file", "tokenizer_file", "gguf_file", "name_or_path"])
def test_files_that_the_configuration_names_are_not_read(
    field: str, tiny: Path, tmp_path: Path, machine: Any
) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy")
    before, _ = load_tokenizer(make_plan(Settings(model=str(folder))), ignore)
    change(folder, "tokenizer_config.json", **{field: str(tmp_path / "outside.json")})
    (tmp_path / "outside.json").write_text("not read")
    after, _ = load_tokenizer(make_plan(Settings(model=str(folder))), ignore)
    assert after == before


def test_a_full_disk_is_not_blamed_on_the_tokenizer(
    tiny: Path, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    plan = make_plan(Settings(model=str(tiny)))
    monkeypatch.setattr(tokenizer_module, "write_checked_files", write)
    with pytest.raises(Refusal, match=r"No space left on device.*set TMPDIR"):
        load_tokenizer(plan, ignore)
