"""Plans which model is loaded, in which precision, on which device, for how many streams.

A plan reads `config.json` and the list of files but no weights, so impossible settings are refused
at once.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import GPTJConfig

from gptj_demo.engine.load.adapters import Adapter, base_of, find_adapters
from gptj_demo.engine.load.errors import Refusal
from gptj_demo.engine.load.families import Description, Family, check_folder
from gptj_demo.engine.load.folder import file_names
from gptj_demo.engine.load.hub import HUB_ID, fetch_small_files, names_in
from gptj_demo.engine.load.memory import (
    USUAL_TOKENS,
    Footprint,
    memory_needed,
    streams_that_fit,
    tokens_that_fit,
    weight_bytes,
)
from gptj_demo.engine.machine import Machine, find_machines, gpu_problem
from gptj_demo.engine.model import Placement, Shape, UnfitBackend, choose_path, device_of
from gptj_demo.hosting import is_on_a_space
from gptj_demo.pages import in_pages
from gptj_demo.settings import Settings
from gptj_demo.texts import Message, joined, message

GPT_J = "EleutherAI/gpt-j-6b"
SAMPLE_MODEL = Path(__file__).resolve().parents[3] / "assets" / "sample-model"

CONTEXTS_WORTH_FLOAT16 = 4
"""A GPU with room for fewer full contexts beside a 16-bit model gets it in int8."""

MOST_STREAMS_BY_DEFAULT = {"cpu": 32, "cuda": 256}
"""The most streams by default. More of them would not raise a processor's total tokens a second."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which model is loaded, in which precision, onto which device, for how many streams."""

    name: str
    """What the page shows: 'GPT-J 6B', 'sample model', or the folder's or repository's name."""
    source: str
    """A local folder or a hub id."""
    revision: str | None
    is_sample: bool
    precision: str
    """float32, float16, bfloat16 or int8."""
    kv_dtype: str
    """The type of keys and values: auto, which is that of the forward path, or bfloat16."""
    device: str
    """cpu or cuda."""
    device_name: str
    max_num_seqs: int
    """Texts that are generated side by side."""
    max_tokens: int
    """Tokens that the KV cache holds, of all texts together; at least one context."""
    reason: Message
    """Why this model in this precision on this device."""
    config: GPTJConfig
    """The checkpoint's configuration: layers, widths, context, rows of the embedding."""
    family: Family
    adapters: tuple[Adapter, ...] = ()
    """Adapters that are merged into the weights, in this order."""
    speculates: bool = True
    """Whether tokens are drafted, where the forward path can verify them."""
    draft: Plan | None = None
    """The model that drafts tokens, in addition to prompt lookup."""

    @property
    def licence(self) -> str | None:
        """The weights' licence where it is known: of the family's original models."""
        maker, separator, _ = self.source.partition("/")
        is_original = separator and maker.lower() == self.family.maker.lower()
        return self.family.licence if is_original else None

    @property
    def why(self) -> Message:
        """Why this model in this precision on this device, and room for how many."""
        context = self.config.n_positions
        usual, full = self.visitors(min(USUAL_TOKENS, context)), self.visitors(context)
        capacities = [message("why.room", count=full, tokens=context)]
        if usual > full:
            capacities.insert(0, message("why.room", count=usual, tokens=USUAL_TOKENS))
        return joined(self.reason, *capacities)

    def visitors(self, tokens: int) -> int:
        """How many texts of `tokens` tokens fit at once."""
        return min(self.max_num_seqs, self.max_tokens // (in_pages(tokens)))

    def smaller(self) -> Plan | None:
        """The plan with a quarter less room; None if it has room for a single context."""
        context = in_pages(self.config.n_positions)
        if self.max_tokens == context:
            return None
        tokens = max(context, in_pages(self.max_tokens * 3 // 4))
        usual = in_pages(min(USUAL_TOKENS, self.config.n_positions))
        streams = min(self.max_num_seqs, tokens // usual)
        return replace(self, max_tokens=tokens, max_num_seqs=streams)


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    name: str
    source: str
    revision: str | None
    is_sample: bool
    description: Description


def make_plan(settings: Settings) -> Plan:
    """The plan for these settings on this machine; loads no weights.

    For a hub id it reads the list of files, the configuration and the tokenizer from the hub, or
    from the local cache if the hub is unreachable. Raises `Refusal`.
    """
    machines = _usable_machines(settings.backend)
    adapters = find_adapters(settings.adapter or "")
    if settings.model != "auto" or adapters:
        is_named = settings.model != "auto"
        checkpoint = _find_checkpoint(settings.model if is_named else base_of(adapters), settings)
        problem = gpu_problem()
        reason = message("why.asked" if is_named else "why.base_of_adapter")
        if problem:
            reason = joined(reason, problem)
        return _plan(checkpoint, machines[0], settings, reason, adapters)
    on_gpu = machines[0].device == "cuda"
    if on_gpu or is_on_a_space():  # elsewhere, without a GPU, nothing is downloaded unasked
        try:
            checkpoint = _find_checkpoint(GPT_J, settings)
            fits = message("why.gpu_fits" if on_gpu else "why.space_fits")
            return _plan(checkpoint, machines[0], settings, fits)
        except Refusal as refusal:
            reason = message("why.refused", reason=str(refusal))
    else:
        if device_of(settings.backend) == "cpu":
            without = message("why.backend_on_processor", backend=settings.backend)
        else:
            without = gpu_problem() or message("why.no_gpu")
        reason = joined(without, _how_to_get_gpt_j(machines[0]))
    checkpoint = _find_checkpoint("sample", settings)
    with suppress(Refusal):  # a GPU can be too full even for this; then use the CPU
        return _plan(checkpoint, machines[0], settings, reason)
    return _plan(checkpoint, machines[-1], settings, reason)


def _usable_machines(backend: str) -> list[Machine]:
    """The devices that a backend runs on, best first; raises `Refusal`."""
    try:
        wanted = device_of(backend)
    except UnfitBackend as error:
        raise Refusal(str(error)) from None
    machines = [one for one in find_machines() if wanted in (None, one.device)]
    if not machines:
        problem = gpu_problem()
        raise Refusal(
            f"The backend {backend} runs on a GPU, and there is none here that can be used: set "
            "backend to auto." + (f" {problem}" if problem else "")
        )
    return machines


def _how_to_get_gpt_j(machine: Machine) -> Message:
    """The command for GPT-J 6B on a processor, and what it needs, in GB."""
    config = GPTJConfig()  # its defaults are those of GPT-J 6B
    return message(
        "why.real_model",
        model=GPT_J,
        download=f"{weight_bytes(config, 'float16') / 1e9:.0f}",
        memory=f"{memory_needed(config, 'int8', 1, config.n_positions) / 1e9:.1f}",
        free=f"{machine.memory / 1e9:.1f}",
    )


def _plan(
    checkpoint: _Checkpoint,
    machine: Machine,
    settings: Settings,
    reason: Message,
    adapters: tuple[Adapter, ...] = (),
) -> Plan:
    draft = _plan_draft(machine, settings)
    if settings.draft is not None and draft is None:
        reason = joined(reason, message("why.draft_unused", name=settings.draft))
    precision, streams, tokens = _choose_precision(checkpoint, machine, settings, draft)
    if settings.backend != "auto":
        placed = Placement(machine.device, precision, checkpoint.description.config)
        try:
            choose_path(placed, settings.backend)
        except UnfitBackend as error:
            raise Refusal(str(error)) from None
    is_small = Shape.of(checkpoint.description.config).is_small
    is_compiled = machine.device == "cpu" and is_small and settings.backend != "eager"
    if settings.kv_dtype != "auto" and precision == "float32" and not is_compiled:
        raise Refusal(
            f"kv_dtype is {settings.kv_dtype}, and {checkpoint.name} in float32 on {machine.name} "
            "keeps keys and values in float32: only a small model on the forward path cpu-compiled "
            "can narrow them. Set kv_dtype to auto, or precision to bfloat16 or int8."
        )
    if settings.precision != "auto":
        because = message("why.precision_asked", precision=precision)
    elif checkpoint.description.is_eight_bit:
        because = message("why.stored_in_int8")
    elif precision == "int8" and machine.device == "cuda":
        because = message("why.int8_on_gpu")
    else:
        because = message(f"why.{precision}")
    if settings.kv_dtype != "auto" and precision == "float32":
        because = joined(because, message("why.kv_dtype", kv_dtype=settings.kv_dtype))
    return Plan(
        name=checkpoint.name,
        source=checkpoint.source,
        revision=checkpoint.revision,
        is_sample=checkpoint.is_sample,
        precision=precision,
        kv_dtype=settings.kv_dtype,
        device=machine.device,
        device_name=machine.name,
        max_num_seqs=streams,
        max_tokens=tokens,
        reason=joined(reason, because),
        config=checkpoint.description.config,
        family=checkpoint.description.family,
        adapters=adapters,
        speculates=settings.speculation == "auto",
        draft=draft,
    )


def _plan_draft(machine: Machine, settings: Settings) -> Plan | None:
    """The plan of the draft model; None where none is set or no forward path can use it."""
    if settings.draft is None or settings.speculation == "off" or machine.device != "cpu":
        return None
    own = {
        "draft": None,
        "backend": "auto",
        "precision": "auto",
        "kv_dtype": "auto",
        "revision": None,
        "max_num_seqs": 1,
    }
    checkpoint_settings = settings.model_copy(update=own)
    checkpoint = _find_checkpoint(settings.draft, checkpoint_settings, "draft")
    return _plan(checkpoint, machine, checkpoint_settings, message("why.asked"))


def _choose_precision(
    checkpoint: _Checkpoint, machine: Machine, settings: Settings, draft: Plan | None
) -> tuple[str, int, int]:
    """The first precision that fits, its streams and the tokens of its cache.

    Raises `Refusal` if none fits.
    """
    config = checkpoint.description.config
    context, usual = config.n_positions, min(USUAL_TOKENS, config.n_positions)
    beside = [] if draft is None else [Footprint(draft.config, draft.precision)]
    candidates: list[tuple[str, int]]  # precision, least number of full contexts
    if settings.precision != "auto":
        candidates = [(settings.precision, 1)]
    elif checkpoint.description.is_eight_bit:
        candidates = [("int8", 1)]
    elif machine.device == "cuda":
        candidates = [("float16", CONTEXTS_WORTH_FLOAT16), ("int8", 1)]
    elif Shape.of(config).is_small:
        candidates = [("float32", 1)]
    else:
        candidates = [("int8", 1)]
    for precision, contexts in candidates:
        models = Footprint(config, precision, settings.kv_dtype), *beside
        fitting = 0
        if streams_that_fit(machine.memory, context, *models) >= contexts:
            fitting = streams_that_fit(machine.memory, usual, *models)
            # the streams' memory outside the cache must leave room for one context
            while tokens_that_fit(machine.memory, fitting, *models) < in_pages(context):
                fitting -= 1
        if fitting >= (settings.max_num_seqs or 1):
            most = MOST_STREAMS_BY_DEFAULT[machine.device]
            streams = settings.max_num_seqs or min(fitting, most)
            fit = tokens_that_fit(machine.memory, streams, *models)
            # with more, each stream would have more than a context
            return precision, streams, min(fit, streams * in_pages(context))
    if fitting > 0:
        raise Refusal(
            f"{settings.max_num_seqs} streams of {usual} tokens do not fit beside "
            f"{checkpoint.name} in {precision} on {machine.name}: {fitting} do; set max_num_seqs "
            f"to {fitting} or less."
        )
    needed = memory_needed(config, precision, 1, context, settings.kv_dtype)
    alone, in_int8 = models[0], Footprint(config, "int8")
    fits_in_int8 = streams_that_fit(machine.memory, context, in_int8, *beside) > 0
    if precision != "int8" and fits_in_int8:
        advice = "set precision to int8, which fits"
    elif draft is not None and streams_that_fit(machine.memory, context, alone) > 0:
        advice = f"leave out the draft model {draft.name}, which takes the rest"
    else:
        advice = "free some memory, take a machine with more, or set model to sample"
    raise Refusal(
        f"{checkpoint.name} in {precision} needs {needed / 1e9:.1f} GB of memory with one context, "
        f"and {machine.memory / 1e9:.1f} GB can be used on {machine.name}: {advice}."
    )


def _find_checkpoint(model: str, settings: Settings, setting: str = "model") -> _Checkpoint:
    """The checkpoint that a setting names; raises `Refusal`."""
    if model == "sample":
        if not (SAMPLE_MODEL / "config.json").is_file():
            raise Refusal(
                f"The sample model is not in {SAMPLE_MODEL}: make it with "
                "tools/train_sample_model.py, or set model to a hub id or a folder."
            )
        description = check_folder(str(SAMPLE_MODEL), SAMPLE_MODEL, file_names(SAMPLE_MODEL))
        return _Checkpoint("sample model", str(SAMPLE_MODEL), None, True, description)

    path = Path(model).expanduser()
    if path.is_file() and path.name.endswith((".bin", ".safetensors", ".index.json")):
        path = path.parent
    if path.resolve() == SAMPLE_MODEL.resolve():
        return _find_checkpoint("sample", settings)
    if path.is_file():
        raise Refusal(f"{model} is a file without weights: set {setting} to a checkpoint's folder.")
    if path.is_dir():
        description = check_folder(model, path, file_names(path))
        return _Checkpoint(path.resolve().name, str(path), None, False, description)
    if not HUB_ID.fullmatch(model):
        others = "auto, sample, " if setting == "model" else ""
        raise Refusal(
            f"{model} was not found: set {setting} to {others}a folder, or a hub id like {GPT_J}."
        )

    is_gpt_j = model.lower() == GPT_J.lower()
    revision = settings.revision
    if is_gpt_j and revision is None and settings.precision != "float32":
        revision = "float16"  # half the size of main, with the same values in 16 bits
    folder = fetch_small_files(model, revision)
    description = check_folder(model, folder, names_in(model, folder))
    name = "GPT-J 6B" if is_gpt_j else model.split("/")[1]
    return _Checkpoint(name, model, revision, False, description)
