"""Finds the weights, plans precision and memory, and loads them.

A plan is made before anything heavy happens, so that what cannot work is refused in a sentence at
once: it reads `config.json` and the list of files, never a weight. Loading leaves the weights
where they are on the disk (mapped, not read) until each tensor is converted, so that it takes
little more memory than what stays.
"""

from __future__ import annotations

import copy
import json
import logging
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub import constants as hub_constants
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]
from safetensors import SafetensorError
from transformers import AutoTokenizer, BitsAndBytesConfig, GPTJConfig, GPTJForCausalLM
from transformers.utils import logging as transformers_logging

from gptj_demo.engine.int8 import quantize
from gptj_demo.engine.machine import Machine, find_machines, return_freed_memory
from gptj_demo.settings import Settings
from gptj_demo.texts import Message, joined, message

Report = Callable[[Message, float | None], None]
"""Told what is being done, and how far it is (0 to 1) where that is known."""

GPT_J = "EleutherAI/gpt-j-6b"
SAMPLE_MODEL = Path(__file__).resolve().parents[2] / "assets" / "sample-model"

MAX_STREAMS_BY_DEFAULT = 32
SMALL_MODEL_PARAMETERS = 1_000_000_000
STREAMS_WORTH_FLOAT16 = 4
"""With room for fewer beside a model in 16 bits, a GPU gets it in 8."""

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""What a checkpoint's weights are named, in the order in which transformers looks for them."""

SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
)
"""What is fetched from the hub besides the weights."""

EXTRA_TOKEN = re.compile(r"<\|extratoken_\d+\|>")
"""Names that GPT-J's tokenizer gives to the rows that pad its embedding; they stand in no text."""


class Refusal(Exception):
    """The settings cannot work on this machine; the message is one sentence for people."""


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
    device: str
    """cpu or cuda."""
    device_name: str
    max_streams: int
    """KV slots, each of the full context."""
    why: Message
    """Why this model in this precision on this device, and room for how many."""
    config: GPTJConfig
    """The checkpoint's configuration: layers, widths, context, rows of the embedding."""


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    name: str
    source: str
    revision: str | None
    is_sample: bool
    config: GPTJConfig


# ---- the plan


def make_plan(settings: Settings) -> Plan:
    """The plan for these settings on this machine; loads no weights.

    For a hub id it reads the list of files, the configuration and the tokenizer from the hub, or
    from the local cache where the hub cannot be reached. Raises `Refusal`.
    """
    machines = find_machines()
    if settings.model != "auto":
        checkpoint = _find_checkpoint(settings.model, settings)
        return _plan(checkpoint, machines[0], settings, message("why.asked"))
    if machines[0].device == "cuda":
        try:
            checkpoint = _find_checkpoint(GPT_J, settings)
            return _plan(checkpoint, machines[0], settings, message("why.gpu_fits"))
        except Refusal as refusal:
            reason = message("why.refused", reason=str(refusal))
    else:
        reason = message("why.no_gpu")
    checkpoint = _find_checkpoint("sample", settings)
    with suppress(Refusal):  # a GPU may be full even for this; then the processor is left
        return _plan(checkpoint, machines[0], settings, reason)
    return _plan(checkpoint, machines[-1], settings, reason)


def parameter_count(config: GPTJConfig) -> int:
    """Parameters of a GPT-J: embedding, layers, last norm, head with its bias."""
    return _quantized_parameter_count(config) + _other_parameter_count(config)


def _quantized_parameter_count(config: GPTJConfig) -> int:
    inner = config.n_inner or 4 * config.n_embd
    return config.n_layer * (4 * config.n_embd**2 + 2 * config.n_embd * inner)


def _other_parameter_count(config: GPTJConfig) -> int:
    inner = config.n_inner or 4 * config.n_embd
    norms_and_biases = config.n_layer * (3 * config.n_embd + inner) + 2 * config.n_embd
    return norms_and_biases + config.vocab_size * (2 * config.n_embd + 1)


def weight_bytes(config: GPTJConfig, precision: str) -> int:
    """Bytes of the weights. In int8 the embedding, the head, norms and biases keep 16 bits."""
    if precision != "int8":
        return parameter_count(config) * (4 if precision == "float32" else 2)
    inner = config.n_inner or 4 * config.n_embd
    rows = config.n_layer * (5 * config.n_embd + inner)
    scales = 4 * rows
    return _quantized_parameter_count(config) + scales + 2 * _other_parameter_count(config)


def kv_bytes_per_token(config: GPTJConfig, precision: str) -> int:
    """Bytes that one token's keys and values take in the cache, over all layers."""
    return 2 * config.n_layer * config.n_embd * (4 if precision == "float32" else 2)


def working_bytes(config: GPTJConfig) -> int:
    """Room for activations: a prompt of the full context in float32, its attention scores for 512
    queries at a time, logits of `MAX_STREAMS_BY_DEFAULT` rows with the sampler's copies, and one
    layer's weights in 16 bits, which fusing and dequantising need."""
    inner = config.n_inner or 4 * config.n_embd
    context = config.n_positions
    activations = 4 * context * (inner + 8 * config.n_embd)
    scores = 2 * 4 * config.n_head * min(512, context) * context
    logits = 6 * 4 * MAX_STREAMS_BY_DEFAULT * config.vocab_size
    layer = 2 * (4 * config.n_embd**2 + 2 * config.n_embd * inner)
    return activations + scores + logits + layer


def memory_needed(config: GPTJConfig, precision: str, streams: int) -> int:
    """Bytes for weights, activations and `streams` full contexts."""
    context = config.n_positions * kv_bytes_per_token(config, precision)
    return weight_bytes(config, precision) + working_bytes(config) + streams * context


def streams_that_fit(config: GPTJConfig, precision: str, memory: int) -> int:
    """How many full contexts fit into `memory` bytes beside the weights; 0 where none does."""
    context = config.n_positions * kv_bytes_per_token(config, precision)
    return max(0, (memory - memory_needed(config, precision, 0)) // context)


def _plan(checkpoint: _Checkpoint, machine: Machine, settings: Settings, reason: Message) -> Plan:
    precision, streams = _choose_precision(checkpoint, machine, settings)
    if settings.precision != "auto":
        because = message("why.precision_asked", precision=precision)
    elif precision == "int8" and machine.device == "cuda":
        because = message("why.int8_on_gpu")
    else:
        because = message(f"why.{precision}")
    room = message("why.room", count=streams, tokens=checkpoint.config.n_positions)
    return Plan(
        name=checkpoint.name,
        source=checkpoint.source,
        revision=checkpoint.revision,
        is_sample=checkpoint.is_sample,
        precision=precision,
        device=machine.device,
        device_name=machine.name,
        max_streams=streams,
        why=joined(reason, because, room),
        config=checkpoint.config,
    )


def _choose_precision(
    checkpoint: _Checkpoint, machine: Machine, settings: Settings
) -> tuple[str, int]:
    """The first precision that fits and its streams; raises `Refusal` where none does."""
    config = checkpoint.config
    candidates: list[tuple[str, int]]  # with the streams that make it worth having
    if settings.precision != "auto":
        candidates = [(settings.precision, 1)]
    elif machine.device == "cuda":
        candidates = [("float16", STREAMS_WORTH_FLOAT16), ("int8", 1)]
    elif parameter_count(config) < SMALL_MODEL_PARAMETERS:
        candidates = [("float32", 1)]
    else:
        candidates = [("int8", 1)]
    for precision, least in candidates:
        fitting = streams_that_fit(config, precision, machine.memory)
        if fitting >= (settings.max_streams or least):
            return precision, settings.max_streams or min(fitting, MAX_STREAMS_BY_DEFAULT)
    if fitting > 0:
        raise Refusal(
            f"{settings.max_streams} streams of {config.n_positions} tokens do not fit beside "
            f"{checkpoint.name} in {precision} on {machine.name}: {fitting} do; set max_streams to "
            f"{fitting} or less."
        )
    needed = memory_needed(config, precision, 1)
    if precision != "int8" and streams_that_fit(config, "int8", machine.memory) > 0:
        advice = "set precision to int8, which fits"
    else:
        advice = "free some memory, take a machine with more, or set model to sample"
    raise Refusal(
        f"{checkpoint.name} in {precision} needs {needed / 1e9:.1f} GB of memory with one context, "
        f"and {machine.memory / 1e9:.1f} GB can be used on {machine.name}: {advice}."
    )


# ---- the checkpoint


def _find_checkpoint(model: str, settings: Settings) -> _Checkpoint:
    if model == "sample":
        if not (SAMPLE_MODEL / "config.json").is_file():
            raise Refusal(
                f"The sample model is not in {SAMPLE_MODEL}: make it with "
                "tools/train_sample_model.py, or set model to a hub id or a folder."
            )
        config = _check(str(SAMPLE_MODEL), SAMPLE_MODEL, _names(SAMPLE_MODEL))
        return _Checkpoint("sample model", str(SAMPLE_MODEL), None, True, config)

    path = Path(model).expanduser()
    if path.is_file() and path.name.endswith((".bin", ".safetensors", ".index.json")):
        path = path.parent
    if path.resolve() == SAMPLE_MODEL.resolve():
        return _find_checkpoint("sample", settings)
    if path.is_file():
        raise Refusal(f"{model} is a file without weights: set model to a checkpoint's folder.")
    if path.is_dir():
        config = _check(model, path, _names(path))
        return _Checkpoint(path.resolve().name, str(path), None, False, config)
    if not re.fullmatch(r"[A-Za-z0-9_][\w.-]*/[\w.-]+", model):
        raise Refusal(
            f"{model} was not found: set model to auto, sample, a folder, or a hub id like {GPT_J}."
        )

    is_gpt_j = model.lower() == GPT_J.lower()
    revision = settings.revision
    if is_gpt_j and revision is None and settings.precision != "float32":
        revision = "float16"  # half of the bytes of main, with the same digits once in 16 bits
    folder = _fetch_small_files(model, revision)
    config = _check(model, folder, set(_hub_sizes(model, folder)) or _names(folder))
    name = "GPT-J 6B" if is_gpt_j else model.split("/")[1]
    return _Checkpoint(name, model, revision, False, config)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def _check(model: str, folder: Path, names: set[str]) -> GPTJConfig:
    """The configuration in `folder`, of a checkpoint of files `names`; raises `Refusal` for what is
    not a whole GPT-J."""
    if "config.json" not in names:
        raise Refusal(f"{model} has no config.json, so it is not a model that can be loaded.")
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = values.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise Refusal(f"{model} has a config.json that cannot be read: {_line(error)}.") from None
    if kind != "gptj":
        raise Refusal(
            f"{model} is not a GPT-J: its config.json says model_type {kind!r}, not 'gptj'."
        )
    if values.get("quantization_config"):
        raise Refusal(
            f"{model} is stored quantized already: take the checkpoint it was made from, with "
            "precision int8."
        )
    try:
        config = GPTJConfig.from_dict(values)
    except (hub_errors.StrictDataclassError, TypeError, ValueError) as error:
        raise Refusal(f"{model} has a config.json with a wrong value: {_line(error)}.") from None
    _weight_files(model, folder, names)
    if "tokenizer.json" not in names and not {"vocab.json", "merges.txt"} <= names:
        raise Refusal(f"{model} has no tokenizer: tokenizer.json, or vocab.json with merges.txt.")
    return config


def _weight_files(model: str, folder: Path, names: set[str]) -> list[str]:
    """The files that hold the weights, of one format; raises `Refusal` where some are missing."""
    first = next((name for name in WEIGHT_FILES if name in names), None)
    if first is None:
        raise Refusal(f"{model} has no weights: none of {', '.join(WEIGHT_FILES)}.")
    if not first.endswith(".index.json"):
        return [first]
    try:
        index = json.loads((folder / first).read_text(encoding="utf-8"))
        shards = sorted({str(name) for name in index["weight_map"].values()})
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise Refusal(f"{model} has a {first} that cannot be read: {_line(error)}.") from None
    missing = [name for name in shards if name not in names]
    if missing:
        raise Refusal(
            f"{model} lacks {len(missing)} of its {len(shards)} weight files, the first of them "
            f"{missing[0]}."
        )
    return shards


def _line(error: Exception) -> str:
    """An error as part of a sentence: its last line, which in transformers' errors says what."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip().removesuffix(".") if lines else type(error).__name__


# ---- the hub


def _fetch_small_files(repository: str, revision: str | None) -> Path:
    """The snapshot folder of a revision with all but the weights in it, from the hub or, where it
    cannot be reached, from the cache; its name is the commit. Raises `Refusal`."""
    with _refusing(repository, revision):
        folder = huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=list(SMALL_FILES), tqdm_class=_SilentBar
        )
    return Path(folder)


def _hub_sizes(repository: str, folder: Path) -> dict[str, int]:
    """Every file of a snapshot with its bytes; empty where the list was never fetched."""
    try:
        tree = huggingface_hub.get_cached_repo_tree(repository, revision=folder.name)
    except hub_errors.CachedRepoTreeNotFoundError:
        return {}
    return {file.path: file.size for file in tree}


def _fetch_weights(plan: Plan, report: Report) -> Path:
    """The folder with the weights in it, downloaded where they are missing; raises `Refusal`."""
    folder = Path(plan.source)
    if folder.is_dir():
        return folder
    report(message("status.looking", source=plan.source), None)
    folder = _fetch_small_files(plan.source, plan.revision)
    sizes = _hub_sizes(plan.source, folder)
    names = _weight_files(plan.source, folder, set(sizes) or _names(folder))
    missing = [name for name in names if not (folder / name).exists()]
    total = sum(sizes.get(name, 0) for name in missing)
    free = shutil.disk_usage(folder).free
    if total > free:
        raise Refusal(
            f"{plan.source} needs {total / 1e9:.1f} GB on the disk, and {free / 1e9:.1f} GB are "
            f"free in {hub_constants.HF_HUB_CACHE}: free some, or set HF_HOME to another disk."
        )

    downloaded = 0
    reported = -1.0

    class Bar(_SilentBar):
        def __init__(self, *args: Any, initial: int = 0, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.update(initial)  # what an interrupted download left

        def update(self, n: float | None = 1) -> None:
            nonlocal downloaded, reported
            downloaded += int(n or 0)
            progress = min(1.0, downloaded / total) if total else 1.0
            if abs(progress - reported) >= 0.001 or progress == 1.0 > reported:
                reported = progress
                done = round(downloaded / 1e6)
                told = message("status.downloading", done=done, total=round(total / 1e6))
                report(told, progress)

        def update_transfer(self, n: float | None = 1) -> None:
            """Bytes off the network, before they are put together; `update` counts them then."""

        def set_transfer_postfix_str(self, *args: Any, **kwargs: Any) -> None: ...

    with _refusing(plan.source, plan.revision):
        for name in missing:
            huggingface_hub.hf_hub_download(plan.source, name, revision=folder.name, tqdm_class=Bar)
    return folder


class _SilentBar(tqdm):
    """A progress bar that is shown nowhere."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]


@contextmanager
def _refusing(repository: str, revision: str | None) -> Iterator[None]:
    """Turns what goes wrong with the hub into a `Refusal`."""
    try:
        yield
    except hub_errors.GatedRepoError:
        message = (
            f"{repository} asks for its terms to be accepted on the hub: do so and set HF_TOKEN"
        )
    except hub_errors.RepositoryNotFoundError:
        message = (
            f"{repository} is neither a folder here nor a model on the hub (or it is private, and "
            "HF_TOKEN is not set)"
        )
    except hub_errors.RevisionNotFoundError:
        message = f"{repository} has no revision {revision or 'main'} on the hub"
    except hub_errors.EntryNotFoundError:
        message = (
            f"{repository} (revision {revision or 'main'}) is not wholly in "
            f"{hub_constants.HF_HUB_CACHE}, and the hub cannot be reached"
        )
    except hub_errors.HFValidationError as error:
        message = f"{repository} is not a hub id: {_line(error)}"
    except OSError as error:
        message = f"{repository} could not be fetched from the hub: {_line(error)}"
    else:
        return
    raise Refusal(message + ".")


# ---- loading


def load_tokenizer_json(plan: Plan, report: Report) -> tuple[str, int, int]:
    """The tokenizer as `tokenizers` serialises it, the id that begins a text, and the number of ids
    that can stand in a text: those below it, without GPT-J's padding. Raises `Refusal`."""
    report(message("status.looking", source=plan.source), None)
    folder = Path(plan.source)
    if not folder.is_dir():
        folder = _fetch_small_files(plan.source, plan.revision)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        backend = tokenizer.backend_tokenizer
    except Exception as error:  # its kinds are not documented, and each means the same here
        raise Refusal(f"The tokenizer of {plan.source} cannot be read: {_line(error)}.") from error
    backend.no_truncation()  # a stored length would cut prompts without a word
    backend.no_padding()
    config = GPTJConfig.from_pretrained(folder)
    text_ids = [i for token, i in backend.get_vocab().items() if not EXTRA_TOKEN.fullmatch(token)]
    vocabulary_size = min(max(text_ids) + 1, config.vocab_size)
    bos_token_id = tokenizer.bos_token_id
    if bos_token_id is None:
        bos_token_id = config.bos_token_id
    if bos_token_id is None or not 0 <= bos_token_id < vocabulary_size:
        raise Refusal(
            f"The tokenizer of {plan.source} has no token to begin a text with (bos_token)."
        )
    return backend.to_str(), bos_token_id, vocabulary_size


def load_model(plan: Plan, report: Report) -> GPTJForCausalLM:
    """The model in evaluation mode on the plan's device, its weights in the plan's precision.

    In int8 the linear layers of the blocks are bitsandbytes' `Linear8bitLt`, and all else is in
    float16. Raises `Refusal`.
    """
    folder = _fetch_weights(plan, report)
    is_int8 = plan.precision == "int8"
    is_quantized_here = is_int8 and plan.device == "cpu"
    dtype: Any
    if is_quantized_here:
        dtype = "auto"  # as they are stored: what is not converted is mapped, and takes no memory
    elif is_int8:  # from which bitsandbytes quantises
        dtype = torch.float16
    else:
        dtype = getattr(torch, plan.precision)
    config = copy.deepcopy(plan.config)
    config.dtype = None  # what it says may not be what the weights are
    try:
        with _reporting_tensors((lambda *_: None) if is_quantized_here else report):
            loaded: Any = GPTJForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                quantization_config=_eight_bits() if is_int8 and not is_quantized_here else None,
                device_map={"": "cuda:0" if plan.device == "cuda" else "cpu"},
                attn_implementation="eager",
                weights_only=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # looked at below
                output_loading_info=True,
            )
    except torch.OutOfMemoryError:
        raise Refusal(
            f"{plan.name} in {plan.precision} ran out of memory on {plan.device_name} while it was "
            "loaded: something else takes memory there."
        ) from None
    except pickle.UnpicklingError as error:
        raise Refusal(
            f"The weights of {plan.source} are damaged, or hold code, which is not run: take them "
            "from somewhere else, best as safetensors."
        ) from error
    except (SafetensorError, EOFError, OSError, RuntimeError) as error:
        raise Refusal(f"The weights of {plan.source} cannot be read: {_line(error)}.") from error
    model: GPTJForCausalLM = loaded[0]
    missing, mismatched = sorted(loaded[1]["missing_keys"]), sorted(loaded[1]["mismatched_keys"])
    if mismatched:
        name, found, expected = mismatched[0]
        raise Refusal(
            f"The weights of {plan.source} are not those of its config.json: {name} is "
            f"{list(found)}, not {list(expected)}."
        )
    if missing:
        raise Refusal(
            f"The weights of {plan.source} lack {len(missing)} tensors, {missing[0]} to begin with."
        )
    model.requires_grad_(False)
    if is_quantized_here:
        _quantize(model, report)
    return model


def _quantize(model: GPTJForCausalLM, report: Report) -> None:
    """Makes the linear layers of the blocks `Linear8bitLt`, one by one, and all else float16.

    bitsandbytes makes the same codes, but of a copy of the weights, by large temporaries.
    """
    _silence_bitsandbytes()
    from bitsandbytes.nn.modules import Int8Params, Linear8bitLt

    blocks: Any = model.transformer.h
    linears = [
        (parent, name, linear)
        for block in blocks
        for parent in (block.attn, block.mlp)
        for name, linear in parent.named_children()
        if isinstance(linear, torch.nn.Linear)
    ]
    for done, (parent, name, linear) in enumerate(linears):
        total = len(linears)
        report(message("status.matrices", done=done, total=total), done / total)
        codes, largest = quantize(linear.weight.data)
        quantized = Linear8bitLt(
            linear.in_features,
            linear.out_features,
            linear.bias is not None,
            has_fp16_weights=False,
            threshold=6.0,  # as transformers has it
            device="meta",
        )
        quantized.weight = Int8Params(codes, requires_grad=False, CB=codes, SCB=largest)
        quantized.bias = linear.bias
        setattr(parent, name, quantized)
        return_freed_memory()
    for parameter in model.parameters():
        if parameter.is_floating_point():  # a copy of its own, as files may be taken away
            parameter.data = parameter.data.to(torch.float16, copy=True)
    report(message("status.matrices", done=len(linears), total=len(linears)), 1.0)


def _silence_bitsandbytes() -> None:
    # Imported on some processors, bitsandbytes warns that it cannot fetch 4-bit kernels from the
    # hub. They are of no use here, and no code is fetched.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def _eight_bits() -> BitsAndBytesConfig:
    _silence_bitsandbytes()
    return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]


@contextmanager
def _reporting_tensors(report: Report) -> Iterator[None]:
    """Reports transformers' progress over the tensors in place of its bar on standard error."""

    def counted(tensors: Any) -> Iterator[Any]:
        total = len(tensors)
        for done, tensor in enumerate(tensors):
            report(message("status.tensors", done=done, total=total), done / total)
            yield tensor
            return_freed_memory()
        report(message("status.tensors", done=total, total=total), 1.0)

    def hook(bar: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return counted(args[0]) if args else bar(*args, **kwargs)

    previous_hook = transformers_logging.set_tqdm_hook(hook)
    previous_verbosity = transformers_logging.get_verbosity()
    # Old checkpoints hold masks that nothing needs; what is missing is looked at by the caller.
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(previous_verbosity)
        transformers_logging.set_tqdm_hook(previous_hook)
