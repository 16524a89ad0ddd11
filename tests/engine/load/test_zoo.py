"""Each checkpoint of the zoo writes and reads the tokens that transformers does with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gptj_demo.engine.loop import load
from gptj_demo.protocol import Finished, Submit, TokenEvent, TokenizerReady
from gptj_demo.sampling import SamplingParams
from gptj_demo.settings import Settings
from gptj_demo.tokenization import Vocabulary
from tests.engine.load.zoo import ZOO
from tests.processes import ROOT

TEXT = "Once upon a time\n\nthe lighthouse  lit\t\tthe lamp ### End"
TOKENS = 20
PARAMS = SamplingParams(max_new_tokens=TOKENS, temperature=0, no_repeat_ngram_size=1)


def write(model: Any, prompt: list[int], unused: list[int], ends: Any) -> list[int]:
    """transformers' greedy continuation, the token that ends it included."""
    ids = torch.tensor([prompt])
    suppressed = [*(model.generation_config.suppress_tokens or ()), *unused]
    options = {} if ends is None else {"eos_token_id": ends}
    written: list[int] = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        no_repeat_ngram_size=1,
        max_new_tokens=TOKENS,
        pad_token_id=0,
        suppress_tokens=suppressed or None,
        **options,
    )[0, len(prompt) :].tolist()
    return written


@pytest.mark.parametrize("name", ZOO)
def test_each_model_tokenizes_and_generates_as_transformers_does(name: str, tmp_path: Path) -> None:
    made = ZOO[name](tmp_path)
    model = made
    if not isinstance(model, torch.nn.Module):
        model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    model.train(False)
    reference = AutoTokenizer.from_pretrained(tmp_path, config=model.config)
    sent: list[Any] = []
    adapter = tmp_path / "adapter"
    settings = Settings(
        model=str(tmp_path),
        adapter=str(adapter) if adapter.is_dir() else None,
        precision="float32",
        backend="eager",
        max_num_seqs=1,
    )
    engine = load(settings, sent.append)
    (ready,) = (one for one in sent if isinstance(one, TokenizerReady))
    vocabulary = Vocabulary.of(ready)
    prompt = vocabulary.encode_prompt(TEXT)
    assert prompt == reference(TEXT).input_ids

    engine.submit(Submit(0, tuple(prompt), PARAMS, seed=0))
    written: list[int] = []
    while not engine.is_idle:
        for event in engine.step():
            if isinstance(event, TokenEvent):
                written.append(event.token_id)
            elif isinstance(event, Finished) and event.end_token_id is not None:
                written.append(event.end_token_id)
    unused = [*ready.unused_token_ids, *range(ready.vocabulary_size, model.config.vocab_size)]
    named = model.generation_config.eos_token_id
    known = named if isinstance(named, list) else [named]
    is_named = any(one is not None and one < model.config.vocab_size for one in known)
    ends = None if is_named else reference.eos_token_id
    assert written == write(model, prompt, unused, ends)
    ends_by_itself = name.startswith("end in") and "tokenizer" not in name
    assert (written[-1] in ready.eos_token_ids) or not ends_by_itself


def test_the_zoo_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "checkpoints.md").read_text("utf-8")
    _, section = page.split("## Layouts and quirks")
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows[2:]] == list(ZOO)
    assert len(ZOO) >= 30
