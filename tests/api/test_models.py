"""The names that the API accepts for the model, and its answers while no model is loaded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gptj_demo.api.access import Access
from gptj_demo.api.context import Context
from gptj_demo.api.errors import ApiError
from gptj_demo.api.models import answers_to, model_id
from gptj_demo.client import Worker
from gptj_demo.protocol import EngineStatus, ModelInfo
from gptj_demo.settings import Settings
from gptj_demo.texts import message

MODEL = ModelInfo(
    name="GPT-J 6B", revision=None, is_sample=False, maker="EleutherAI", licence=None,
    adapters=(), precision="float16", device="cuda",
    device_name="none", forward_path="eager", parameters=1, weight_bytes=1, context_length=2048,
    vocabulary_size=50400, bos_token_id=50256, max_num_seqs=1, max_tokens=2048,
    why=message("why.asked"),
)  # fmt: skip
SAMPLE = replace(MODEL, name="sample model", is_sample=True)
HUB_NAMES = ["EleutherAI/gpt-j-6b", "eleutherai/GPT-J-6B", "gpt-j-6b", "GPT-J-6B", "gpt-j 6b"]


@pytest.mark.parametrize(
    ("model", "setting", "name", "asked"),
    [
        (SAMPLE, "auto", "sample-model", ["sample model", "Sample-Model", "auto"]),
        (SAMPLE, "sample", "sample-model", ["sample model", "sample"]),
        (MODEL, "auto", "EleutherAI/gpt-j-6b", [*HUB_NAMES, "auto"]),
        (MODEL, "eleutherai/gpt-j-6B", "EleutherAI/gpt-j-6b", HUB_NAMES),
        (replace(MODEL, name="pygmalion-6b"), "PygmalionAI/pygmalion-6b", "pygmalion-6b",
         ["pygmalionai/pygmalion-6b", "Pygmalion-6B"]),
        (replace(MODEL, name="GPT-J 6B + a", adapters=("a",)), "auto", "GPT-J 6B + a", ["auto"]),
        (replace(MODEL, name="my tune"), "/models/my tune", "my tune",
         ["MY TUNE", "/models/my tune"]),
    ],
)  # fmt: skip
def test_the_model_answers_to_its_names_in_any_letter_case(
    model: ModelInfo, setting: str, name: str, asked: list[str]
) -> None:
    assert model_id(model, setting) == name
    for one in (name, *asked):
        assert answers_to(one, model, setting), one
    for one in ("", "gpt-3.5-turbo-instruct", "models"):
        assert not answers_to(one, model, setting), one


def test_retry_after_is_sent_only_where_a_retry_can_help() -> None:
    settings = Settings(model="sample")
    worker = Worker(settings)
    context = Context(worker, settings, Access(settings))
    for state, helps in (("starting", True), ("loading", True), ("failed", False)):
        worker.status = EngineStatus(state, message("status.starting"))  # type: ignore[arg-type]
        with pytest.raises(ApiError) as refused:
            context.ready_model(None)
        assert refused.value.status == 503
        assert ("Retry-After" in refused.value.headers) == helps, state
