"""The draft model: the memory planned for it, and models that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from gptj_demo.engine.load import Refusal, make_plan, memory_needed
from gptj_demo.engine.loop import load
from gptj_demo.protocol import EngineStatus, Finished
from gptj_demo.settings import Settings
from tests.engine.bench import DRAWN, A, B, C, request
from tests.engine.checkpoints import copy_checkpoint, make_checkpoint
from tests.engine.drafting import drafted_by, texts_of
from tests.engine.load.conftest import GB, refusal


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smaller model with the tokenizer of `tiny`, and a longer context."""
    folder = tmp_path_factory.mktemp("drafts") / "small"
    return make_checkpoint(folder, n_layer=1, n_positions=96, seed=1)


def test_the_memory_of_the_draft_model_is_planned(
    full_size: Path, draft: Path, machine: Any
) -> None:
    machine(cpu=24)
    alone = make_plan(Settings(model=str(full_size)))
    plan = make_plan(Settings(model=str(full_size), draft=str(full_size)))
    assert alone.draft is None
    assert plan.draft is not None
    assert plan.draft.precision == "int8"
    contexts = plan.visitors(2048)
    needed = memory_needed(plan.config, "int8", contexts, 2048)
    assert 2 * needed <= 24 * GB < 2 * memory_needed(plan.config, "int8", contexts + 1, 2048)
    assert contexts < alone.visitors(2048)
    machine(cpu=9)
    assert "leave out the draft model full-size" in refusal(
        model=str(full_size), draft=str(full_size)
    )


def test_an_unusable_draft_model_is_refused_or_reported_as_not_used(
    tiny: Path, draft: Path, machine: Any
) -> None:
    missing = refusal(model=str(tiny), draft=str(draft / "none"))
    assert missing.endswith("set draft to a folder, or a hub id like EleutherAI/gpt-j-6b.")
    assert make_plan(Settings(model=str(tiny), draft=str(draft), speculation="off")).draft is None
    machine(gpu=16)
    plan = make_plan(Settings(model=str(tiny), draft=str(draft)))
    assert plan.draft is None
    assert f"The draft model {draft} is not used" in str(plan.why)


def test_another_vocabulary_is_refused(tiny: Path, draft: Path, tmp_path: Path) -> None:
    folder = copy_checkpoint(draft, tmp_path / "other")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = tokenizer.to_str().replace('"ĠA":', '"ĠZZ":').replace('"A":', '"AZ":')
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(Refusal) as caught:
        load(Settings(model=str(tiny), draft=str(folder), max_num_seqs=2), lambda _: None)
    assert str(caught.value) == (
        f"The draft model other has another vocabulary than tiny (token {A} differs): set draft to "
        "a model with the same tokenizer."
    )


def test_a_loaded_draft_model_drafts_and_changes_no_text(tiny: Path, draft: Path) -> None:
    texts = []
    for settings in ({"speculation": "off"}, {"draft": str(draft)}):
        sent: list[object] = []
        engine = load(Settings(model=str(tiny), max_num_seqs=2, **settings), sent.append)
        if (speculation := engine._runner.speculation) is not None:  # drafts cost nothing
            speculation.row_cost = speculation._drafters[-1]._token_cost = 0.0  # type: ignore[attr-defined]
        engine.submit(request(1, (A, B, C), **{**DRAWN, "max_new_tokens": 24}))
        events = []
        while not engine.is_idle:
            events += engine.step()
        texts.append(texts_of({1: events}))
        assert isinstance(events[-1], Finished)
        status = sent[-1]
        assert isinstance(status, EngineStatus)
        assert status.model is not None
        is_reported = "The draft model small drafts tokens" in str(status.model.why)
        assert is_reported == ("draft" in settings)
    assert texts[0] == texts[1]
    assert drafted_by(events, "model")[0] > 0
