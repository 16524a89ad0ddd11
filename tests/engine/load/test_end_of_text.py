"""What ends a text: the same tokens as in transformers' `generate`, wherever they are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, GPTJForCausalLM

from gptj_demo.engine.loop import load
from gptj_demo.protocol import Finished, Submit, TokenEvent
from gptj_demo.sampling import SamplingParams
from gptj_demo.settings import Settings
from tests.engine.checkpoints import TEXT_TOKENS, make_checkpoint
from tests.engine.load.conftest import ignore

END = TEXT_TOKENS - 1  # <|endoftext|>
TOKENS = 40
PROMPTS = [(7, 90, 17), (40, 41), (200,), (3, 5, 8, 13, 21)]

Files = dict[str, Any]
# name -> (fields of config.json, generation_config.json, fields of tokenizer_config.json)
# `common` stands for a token that the model writes often, so that texts end with it
CASES: dict[str, tuple[Files, Files | None, Files]] = {
    "the same everywhere": ({}, None, {}),
    "config, an id": ({"eos_token_id": "common"}, None, {}),
    "config, a list": ({"eos_token_id": [END, "common"]}, None, {}),
    "generation_config, an id": ({}, {"eos_token_id": "common"}, {}),
    "generation_config, a list": ({}, {"eos_token_id": [END, "common", "other"]}, {}),
    "generation_config wins over config": (
        {"eos_token_id": "common"},
        {"eos_token_id": "other"},
        {},
    ),
    "generation_config wins over the tokenizer": (
        {},
        {"eos_token_id": ["other"]},
        {"eos_token": "!"},
    ),
    "the tokenizer, where nothing else names one": ({"eos_token_id": None}, None, {}),
    "the tokenizer, where the config names a row beyond it": ({"eos_token_id": 50256}, None, {}),
    "bos is another token": ({"bos_token_id": "other", "eos_token_id": "common"}, None, {}),
    "no bos": ({"bos_token_id": None, "eos_token_id": "common"}, None, {"bos_token": None}),
    "suppressed tokens": (
        {},
        {"eos_token_id": "common", "suppress_tokens": ["other", "third"]},
        {},
    ),
    "a list with an id that the model does not have": (
        {},
        {"eos_token_id": [999, "common"]},
        {},
    ),
}


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Ids that greedy texts of the model hold: the first is frequent, the others come later."""
    folder = make_checkpoint(tmp_path_factory.mktemp("model"))
    model = GPTJForCausalLM.from_pretrained(folder, dtype=torch.float32)
    written = [token for prompt in PROMPTS for token in generate(model, prompt, None)]
    ids = sorted(set(written), key=lambda token: -written.count(token))
    return dict(zip(("common", "other", "third"), ids[3:], strict=False))


def generate(model: GPTJForCausalLM, prompt: tuple[int, ...], ends: Any) -> list[int]:
    """The greedy continuation with its end token; `ends` replaces the model's own end tokens."""
    ids = torch.tensor([prompt])
    known = {} if ends is None else {"eos_token_id": ends}
    written: list[int] = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=TOKENS,
        pad_token_id=0,
        suppress_tokens=[
            *(model.generation_config.suppress_tokens or ()),
            *range(TEXT_TOKENS, model.config.vocab_size),
        ],
        **known,
    )[0, len(prompt) :].tolist()
    return written


def write(folder: Path, case: str, common: dict[str, int]) -> None:
    def named(value: Any) -> Any:
        if isinstance(value, list):
            return [named(one) for one in value]
        return common.get(value, value) if isinstance(value, str) else value

    config, generation, tokenizer = CASES[case]
    for name, changes in (("config.json", config), ("tokenizer_config.json", tokenizer)):
        values = json.loads((folder / name).read_text()) | {k: named(v) for k, v in changes.items()}
        (folder / name).write_text(json.dumps(values))
    if generation is not None:
        values = {key: named(value) for key, value in generation.items()}
        (folder / "generation_config.json").write_text(json.dumps(values))


@pytest.mark.parametrize("case", CASES)
def test_texts_end_where_generate_ends_them(
    case: str, common: dict[str, int], tmp_path: Path
) -> None:
    folder = make_checkpoint(tmp_path)
    write(folder, case, common)
    model = GPTJForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ends = tokenizer.eos_token_id if case.startswith("the tokenizer") else None
    engine = load(Settings(model=str(folder), max_num_seqs=len(PROMPTS)), ignore)
    ended = 0
    for request_id, prompt in enumerate(PROMPTS):
        params = SamplingParams(max_new_tokens=TOKENS, temperature=0)
        engine.submit(Submit(request_id, prompt, params, seed=0))
    written: dict[int, list[int]] = {request_id: [] for request_id in range(len(PROMPTS))}
    while not engine.is_idle:
        for event in engine.step():
            if isinstance(event, TokenEvent):
                written[event.request_id].append(event.token_id)
            if isinstance(event, Finished) and event.end_token_id is not None:
                written[event.request_id].append(event.end_token_id)
                ended += 1
    for request_id, prompt in enumerate(PROMPTS):
        assert written[request_id] == generate(model, prompt, ends), prompt
    assert ended or "common" not in str(CASES[case])


def test_ignored_fields_of_generation_config_are_reported(tmp_path: Path, machine: Any) -> None:
    folder = make_checkpoint(tmp_path)
    settings = {"eos_token_id": END, "forced_eos_token_id": END, "bad_words_ids": [[5]]}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    statuses: list[Any] = []
    load(Settings(model=str(folder), max_num_seqs=1), statuses.append)
    assert "bad_words_ids, forced_eos_token_id" in str(statuses[-1].detail)


def test_a_model_without_any_end_or_beginning_is_refused(tmp_path: Path, machine: Any) -> None:
    folder = make_checkpoint(tmp_path, bos_token_id=None, eos_token_id=None)
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text()) | {"bos_token": None, "eos_token": None}
    path.write_text(json.dumps(values))
    with pytest.raises(Exception, match="no token to begin or end a text"):
        load(Settings(model=str(folder), max_num_seqs=1), ignore)
