"""A control is one row of the table and one class: its name stands nowhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from gptj_demo.engine.sampling.controls import EFFECTS
from gptj_demo.sampling import CONTROL_ORDER, CONTROLS
from tests.engine.sampling import reference, rows
from tests.processes import ROOT

PACKAGE = ROOT / "gptj_demo"
NAMES = {
    *CONTROL_ORDER,
    *(control.name for control in CONTROLS if control.part_of in CONTROL_ORDER),
}

WHOLE = ("sampling.py", "engine/sampling/")
"""The table and the classes."""

ALLOWED = {
    # turned into token ids before the engine sees them
    "tokenization.py": {
        "allowed_token_ids",
        "bad_words",
        "dry_multiplier",
        "dry_sequence_breakers",
        "logit_bias",
        "min_new_tokens",
    },
    "guidance.py": {"must_match", "must_match_text"},
    "client/prompt.py": {"bad_words", "dry_sequence_breakers", "logit_bias"},
    # heals the prompt, or offers to
    "__main__.py": {"token_healing"},
    "engine/engine.py": {"token_healing"},
    # has no name, or another one, at other servers
    "engine/remote/abilities.py": {
        "must_match",
        "must_match_text",
        "temperature",
        "token_healing",
    },
    "engine/remote/bodies.py": {
        "logit_bias",
        "min_new_tokens",
        "must_match",
        "must_match_text",
        "temperature",
    },
    # other names, forms and defaults: transformers', OpenAI's, other servers'
    "engine/load/tokenizer.py": {"min_new_tokens"},
    "ui/share.py": {"must_match_text"},
    "ui/snippets.py": {"bad_words", "logit_bias", "temperature"},
    "api/compatibility.py": {
        "dry_multiplier",
        "dry_sequence_breakers",
        "logit_bias",
        "min_new_tokens",
        "mirostat",
        "repetition_penalty",
        "repetition_penalty_range",
        "tfs",
        "top_k",
        "typical_p",
    },
    "api/kobold.py": {"temperature", "tfs", "top_a", "top_k", "top_p", "typical_p"},
    "api/pipeline_cloud.py": {
        "min_new_tokens",
        "repetition_penalty",
        "temperature",
        "top_k",
        "top_p",
    },
    "api/matching.py": {"must_match", "must_match_text"},
    "api/schema.py": {"temperature", "top_p"},
}
"""What other files may name. A new control needs no entry."""


def names_in(path: Path) -> Iterator[str]:
    """The controls that code names: as a string, an attribute or a keyword."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and node.value in NAMES:
            yield str(node.value)
        elif isinstance(node, ast.Attribute) and node.attr in NAMES:
            yield node.attr
        elif isinstance(node, ast.keyword) and node.arg in NAMES:
            yield str(node.arg)


def test_every_control_that_changes_logits_has_a_class() -> None:
    assert EFFECTS.keys() == set(CONTROL_ORDER)


def test_the_tests_of_sampling_know_every_control() -> None:
    """An entry in `STAGES` of reference.py, and in `SETTINGS`, `OFF` and `ON` of rows.py."""
    assert reference.STAGES.keys() == set(CONTROL_ORDER)
    assert rows.ON.keys() == set(CONTROL_ORDER)
    by_tokens = {"logit_bias", "bad_words", "must_match", "token_healing"}  # not by a setting
    assert rows.SETTINGS.keys() == rows.OFF.keys() == set(CONTROL_ORDER) - by_tokens


def test_no_other_code_names_a_control() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix(): set(names_in(path)) for path in PACKAGE.rglob("*.py")
    }
    wrong = {
        path: sorted(names - ALLOWED.get(path, set()))
        for path, names in found.items()
        if not path.startswith(WHOLE) and names - ALLOWED.get(path, set())
    }
    assert not wrong, f"move these to the table or the control's class: {wrong}"
    unused = {path: names - found[path] for path, names in ALLOWED.items() if names - found[path]}
    assert not unused, f"remove these from ALLOWED: {unused}"
