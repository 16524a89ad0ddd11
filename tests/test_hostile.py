"""The corpus of hostile texts, and the modules that read files and links, without a browser."""

from __future__ import annotations

import json

from tests.hostile import CANARY, SOUND, TEXTS
from tests.node import node


def test_the_corpus_has_500_different_texts_of_every_kind() -> None:
    assert len(set(TEXTS)) == len(TEXTS) >= 500
    whole = "\n".join(SOUND)
    for part in ("<script", "onerror=", "${executed(", "{{executed(", "javascript:", f"//{CANARY}/",
                 "__proto__", "\u202e", "$\\href{javascript:", "![x](", "&lt;img"):  # fmt: skip
        assert part in whole, part
    assert max(map(len, TEXTS)) > 4000
    assert any("\ud800" <= character <= "\udfff" for text in TEXTS for character in text)


def test_the_modules_handle_every_hostile_text_as_text() -> None:
    ended = node("tests/js/check_hostile.js", stdin=json.dumps(TEXTS))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.strip() == f"{len(TEXTS)} texts"
