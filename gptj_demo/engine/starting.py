"""From settings to an engine that has answered a request, in steps.

`load_weights` finds, plans and loads; `start_engine` builds the forward path and tries it. The
second step may run in another process than the first, as on ZeroGPU. Before them, `compile_code`
compiles what a large model on a processor needs.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from transformers import GPTJForCausalLM

from gptj_demo.engine import load as loading
from gptj_demo.engine.engine import Engine
from gptj_demo.engine.machine import is_out_of_memory
from gptj_demo.engine.model import build_model, set_up_torch
from gptj_demo.engine.model.base import ForwardModel, Report
from gptj_demo.engine.runner import Runner
from gptj_demo.engine.sampling import MOST_MEMORY
from gptj_demo.engine.vocabulary import EngineVocabulary
from gptj_demo.protocol import EngineStatus, ModelInfo, Submit, TokenizerReady
from gptj_demo.sampling import SamplingParams
from gptj_demo.texts import Message, first_line, joined, message
from gptj_demo.tokenization import special_ids, token_bytes

logger = logging.getLogger(__name__)

REPORT_SECONDS = 0.1  # loading is reported at most this often

Send = Callable[[object], None]


@dataclass(frozen=True, slots=True)
class Weights:
    """A loaded checkpoint: the plan, the tokenizer, a note on what was not applied, the model."""

    plan: loading.Plan
    tokenizer: TokenizerReady
    note: Message | None
    model: GPTJForCausalLM

    def vocabulary(self) -> EngineVocabulary:
        """The engine's view of the tokenizer."""
        tokenizer = self.tokenizer
        return EngineVocabulary(
            token_bytes(tokenizer.tokenizer_json),
            tokenizer.vocabulary_size,
            tokenizer.context_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_ids=tokenizer.eos_token_ids,
            unused_token_ids=tokenizer.unused_token_ids,
            special_token_ids=special_ids(tokenizer.tokenizer_json),
        )

    def info(self, path: str, *remarks: Message | None) -> ModelInfo:
        """The model as the page and the API show it, computed by the forward path `path`."""
        plan, tokenizer = self.plan, self.tokenizer
        said = (message("why.path", path=path), self.note, *remarks)
        return ModelInfo(
            name=plan.name,
            revision=plan.revision,
            is_sample=plan.is_sample,
            maker=plan.family.maker,
            licence=plan.licence,
            adapters=tuple(adapter.label for adapter in plan.adapters),
            precision=plan.precision,
            device=plan.device,
            device_name=plan.device_name,
            parameters=loading.parameter_count(plan.config),
            forward_path=path,
            weight_bytes=loading.weight_bytes(plan.config, plan.precision),
            context_length=tokenizer.context_length,
            vocabulary_size=tokenizer.vocabulary_size,
            bos_token_id=tokenizer.bos_token_id,
            max_num_seqs=plan.max_num_seqs,
            max_tokens=plan.max_tokens,
            why=joined(plan.why, *(one for one in said if one is not None)),
        )


def reporting(send: Send) -> Report:
    """A function that reports the progress of loading, not too often."""
    last = 0.0

    def report(detail: Message, progress: float | None = None) -> None:
        nonlocal last
        now = time.monotonic()
        if progress is None or progress >= 1 or now - last > REPORT_SECONDS:
            last = now
            send(EngineStatus("loading", detail, progress))

    return report


def refusing(model: str, error: BaseException) -> loading.Refusal:
    """The refusal of a model that cannot be loaded because of `error`.

    Every error while loading is a refusal, because the files, the settings and the machine would be
    the same at the next start.
    """
    logger.debug("loading failed", exc_info=error)
    problem = f"{type(error).__name__}, {first_line(error)}"
    return loading.Refusal(
        f"The model {model} cannot be loaded ({problem}): check its files, or set model to "
        "another one or to sample."
    )


def compile_code(plan: loading.Plan, backend: str, report: Report) -> None:
    """Compile the engine's code for a plan, or take it from numba's cache, without the weights.

    An engine that has compiled is started again, which must not load a large model twice. A small
    model is loaded at once, so this does nothing for it.
    """
    if (plan.device, plan.precision) != ("cpu", "int8"):
        return
    report(message("status.preparing"), None)
    stand_in = loading.make_stand_in(plan)
    size = stand_in.config.vocab_size
    model, _ = build_model(stand_in, backend)
    vocabulary = EngineVocabulary(
        [b" "] * size, size, plan.config.n_positions, bos_token_id=0, eos_token_ids=()
    )
    draft = None
    if plan.draft is not None:
        is_large = plan.draft.precision == "int8"
        make = loading.make_stand_in if is_large else partial(loading.load_model, report=report)
        draft, _ = build_model(make(plan.draft))
    few = replace(plan, max_num_seqs=2, max_tokens=2 * plan.config.n_positions)
    _build(model, draft, few, vocabulary, report)


def load_weights(
    plan: loading.Plan, report: Report, send: Send, device: str | None = None
) -> Weights:
    """The checkpoint of a plan on `device`, by default the plan's; sends the tokenizer first.

    Raises `loading.Refusal`.
    """
    tokenizer, note = loading.load_tokenizer(plan, report)
    loading.check_draft(plan, tokenizer, report)
    send(tokenizer)
    target = plan if device is None else replace(plan, device=device)
    return Weights(plan, tokenizer, note, loading.load_model(target, report))


def start_engine(
    weights: Weights, report: Report, backend: str, may_shrink: bool
) -> tuple[Engine, ModelInfo]:
    """An engine that has answered a request, and a description of its model.

    Takes the weights over. With `may_shrink`, its KV cache is smaller than planned if there is less
    memory than planned. Raises `loading.Refusal`.
    """
    plan = weights.plan
    set_up_torch(weights.model)
    try:
        model, choice = build_model(weights.model, backend)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise loading.ran_out_of_memory(plan) from None
    if plan.kv_dtype != "auto" and not model.narrow_cache():
        raise loading.Refusal(
            f"kv_dtype is {plan.kv_dtype}, and the forward path {choice.path} keeps keys and "
            "values in float32: set kv_dtype to auto, or precision to bfloat16 or int8."
        )
    draft = _load_draft(plan, model, report)
    report(message("status.warming_up"), None)
    vocabulary = weights.vocabulary()
    while (started := _try_engine(model, draft, plan, vocabulary, report)) is None:
        smaller = plan.smaller() if may_shrink else None
        if smaller is None:
            raise loading.Refusal(
                f"{plan.name} in {plan.precision} with a KV cache of {plan.max_tokens} tokens ran "
                f"out of memory on {plan.device_name} while it was tried: free some memory there, "
                "set max_num_seqs to fewer, or precision to int8."
            )
        sizes = plan.max_tokens, smaller.max_tokens
        logger.warning("a cache of %d tokens ran out of memory; trying %d", *sizes)
        plan = smaller
    engine, slower = started
    missing = choice.unavailable
    uncompiled = None if missing is None else message("why.slower", reason=missing)
    drafting = None
    if plan.draft is not None:
        drafting = message(
            "why.draft_unused" if draft is None else "why.draft", name=plan.draft.name
        )
    return engine, replace(weights, plan=plan).info(choice.path, drafting, slower, uncompiled)


def warm_up(engine: Engine, context: int) -> None:
    """Run two requests, so that the first visitor does not wait for lazy set-up."""
    params = SamplingParams(max_new_tokens=4)
    engine.submit(Submit(0, (0,) * min(8, context - 4), params, seed=0))
    engine.submit(Submit(-1, (0,), params, seed=0))
    while not engine.is_idle:
        engine.step()


def try_most_memory(engine: Engine, context: int, streams: int, prefill_budget: int) -> None:
    """Run the steps that need the most memory, so that a lack of it shows at the start.

    A prompt of the full context is scored, which wants the logits of whole chunks, while all slots
    draw with the controls that make the most copies of their logits.
    """
    most = SamplingParams(max_new_tokens=4, **MOST_MEMORY)
    long = (0,) * max(1, context - 4)
    steps = 2 * len(long) // prefill_budget + 8  # the others draw until the prompt is read
    others = most.model_copy(update={"max_new_tokens": min(steps, context - 1)})
    for number in range(1, streams):
        engine.submit(Submit(-number, (0,), others, seed=0))
    engine.submit(Submit(0, long, most.model_copy(update={"echo": True}), seed=0))
    while not engine.is_idle:
        engine.step()


def _load_draft(plan: loading.Plan, model: ForwardModel, report: Report) -> ForwardModel | None:
    """The draft model of a plan; None if there is none or the forward paths do not speculate."""
    if plan.draft is None or not model.verifies:
        return None
    draft, _ = build_model(loading.load_model(plan.draft, report))
    return draft if draft.verifies else None


def _try_engine(
    model: ForwardModel,
    draft: ForwardModel | None,
    plan: loading.Plan,
    vocabulary: EngineVocabulary,
    report: Report,
) -> tuple[Engine, Message | None] | None:
    """The result of `_build`; None if the plan's streams need more memory than is free."""
    try:
        return _build(model, draft, plan, vocabulary, report)
    except RuntimeError as error:  # its traceback keeps the tensors alive until here
        if not is_out_of_memory(error):
            raise
    model.release()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def _build(
    model: ForwardModel,
    draft: ForwardModel | None,
    plan: loading.Plan,
    vocabulary: EngineVocabulary,
    report: Report,
) -> tuple[Engine, Message | None]:
    """An engine that has answered a request, and why it decodes slower than planned, if it does."""
    unused = sorted(vocabulary.unused_token_ids)
    runner = Runner(model, plan.max_num_seqs, vocabulary.size, unused, plan.max_tokens)
    engine = Engine(runner, vocabulary, model.prefill_budget)
    slower = runner.prepare(report)
    if plan.speculates:
        runner.speculate(draft)
    context = model.shape.context_length
    warm_up(engine, context)
    if model.tries_most_memory:
        try_most_memory(engine, context, plan.max_num_seqs, model.prefill_budget)
    return engine, slower
