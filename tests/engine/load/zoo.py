"""Tiny checkpoints, one for each layout and quirk that GPT-J's checkpoints on the hub have.

`docs/checkpoints.md` lists them under the same names.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, processors
from transformers import AutoModelForCausalLM, GPTJForCausalLM

from tests.engine.checkpoints import (
    END_OF_TEXT,
    TEXT_TOKENS,
    Layout,
    make_checkpoint,
    make_config,
    write_tokenizer,
    write_weights,
)
from tests.engine.relatives import change_json, make_adapter, make_codegen, make_eight_bit

Make = Callable[[Path], Any]
"""Writes a checkpoint into a folder. Returns the model that it must behave as, or anything else
where transformers reads the folder itself."""

WEIGHTS = "model.safetensors"
END = TEXT_TOKENS - 1


# ---- weights


def _half(layout: Layout) -> Make:
    return partial(make_checkpoint, layout=layout, dtype=torch.float16)


def _without_index(layout: Layout) -> Make:
    """Shards whose index was not uploaded, which transformers does not read."""

    def make(folder: Path) -> GPTJForCausalLM:
        make_checkpoint(folder, layout=layout)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        next(folder.glob("*.index.json")).unlink()
        return model  # type: ignore[no-any-return]

    return make


def _renamed(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Make:
    def make(folder: Path) -> None:
        make_checkpoint(folder)
        tensors = change(load_file(folder / WEIGHTS))
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return make


def _without_prefix(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}


def _with_value_head(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    head = {"v_head.summary.weight": torch.ones(1, 32), "v_head.summary.bias": torch.ones(1)}
    return tensors | head


def _without_head(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}


def _with_positions(folder: Path) -> None:
    """The table of rotary positions, saved as a buffer."""
    make_checkpoint(folder, layout="bin")
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    for layer in range(2):
        tensors[f"transformer.h.{layer}.attn.embed_positions"] = torch.ones(64, 4)
    write_weights(folder, tensors, "bin")


def _in_both_formats(folder: Path) -> None:
    make_checkpoint(folder, layout="bin", seed=1)
    make_checkpoint(folder)


def _tied(stored: bool) -> Make:
    def make(folder: Path) -> None:
        make_checkpoint(folder, tie_word_embeddings=True)
        tensors = load_file(folder / WEIGHTS) if not stored else None
        if tensors is None:
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        else:
            tensors = _without_head(tensors)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return make


def _eight_bit(folder: Path) -> GPTJForCausalLM:
    _, weights = make_eight_bit(folder)
    model = GPTJForCausalLM(make_config())
    model.load_state_dict(weights)
    return model


# ---- sizes


def _sized(**config: Any) -> Make:
    return partial(make_checkpoint, **config)


def _null_rotary_dim(folder: Path) -> GPTJForCausalLM:
    """The whole head; transformers refuses null since its configurations are checked."""
    make_checkpoint(folder, rotary_dim=8)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "rotary_dim": None}))
    return model  # type: ignore[no-any-return]


def _other_names(folder: Path) -> None:
    """Sizes under the names that transformers uses for all models."""
    make_checkpoint(folder)
    path = folder / "config.json"
    values = json.loads(path.read_text())
    for name, other in (
        ("n_embd", "hidden_size"),
        ("n_head", "num_attention_heads"),
        ("n_layer", "num_hidden_layers"),
        ("n_positions", "max_position_embeddings"),
    ):
        values[other] = values.pop(name)
    path.write_text(json.dumps(values))


def _old_fields(folder: Path) -> None:
    """Fields of the time when GPT-J was code in its repository, or of the trainer's."""
    make_checkpoint(folder)
    change_json(
        folder / "config.json",
        attention_layers=["global", "global"],
        auto_map={"AutoModelForCausalLM": "modeling_gptj.GPTJForCausalLM"},
        jax=True,
        rotary=True,
        scale_attn_weights=True,
        task_specific_params={"text-generation": {"do_sample": True, "temperature": 1.0}},
        tokenizer_class="GPT2Tokenizer",
        torch_dtype="float16",
        use_cache=False,
    )


# ---- what ends a text


def _ending(config: Any = END, generation: Any = None, tokenizer: str | None = END_OF_TEXT) -> Make:
    def make(folder: Path) -> None:
        make_checkpoint(folder, eos_token_id=config)
        change_json(folder / "tokenizer_config.json", eos_token=tokenizer)
        if generation is not None:
            (folder / "generation_config.json").write_text(json.dumps(generation))

    return make


# ---- tokenizers


def _files(*names: str) -> Make:
    """A tokenizer of vocab.json and merges.txt and these other files."""

    def make(folder: Path) -> None:
        make_checkpoint(folder, tokenizer_layout="files", vocab_size=TEXT_TOKENS)
        if "end in vocab.json" in names:  # as in GPT-2's own file
            change_json(folder / "vocab.json", **{END_OF_TEXT: END})
        for name in ("added_tokens.json", "special_tokens_map.json", "tokenizer_config.json"):
            if name not in names:
                (folder / name).unlink()

    return make


def _tokenizer(change: Callable[[Tokenizer], None], **fields: Any) -> Make:
    """A changed tokenizer.json, in a model with rows for four more tokens."""

    def make(folder: Path) -> None:
        make_checkpoint(folder, vocab_size=TEXT_TOKENS + 4)
        write_tokenizer(folder, TEXT_TOKENS)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        change(tokenizer)
        tokenizer.save(str(folder / "tokenizer.json"))
        change_json(folder / "tokenizer_config.json", **fields)

    return make


def _begins(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A", special_tokens=[(END_OF_TEXT, END)]
    )


def _truncates(tokenizer: Tokenizer) -> None:
    tokenizer.enable_truncation(1024)
    tokenizer.enable_padding(pad_id=END, pad_token=END_OF_TEXT)


def _adds_tokens(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens(["\n\n", "lighthouse"])


def _adds_special_tokens(tokenizer: Tokenizer) -> None:
    tokenizer.add_special_tokens(["### End", "### Instruction:", "### Response:\n"])


def _adds_padding(tokenizer: Tokenizer) -> None:
    tokenizer.add_special_tokens(["[PAD]"])


def _nothing(tokenizer: Tokenizer) -> None: ...


def _codegen_with_spaces(folder: Path) -> None:
    """CodeGen's tokens for runs of spaces and tabs."""
    make_codegen(folder, layout="bin", dtype=torch.float16)
    write_tokenizer(folder, TEXT_TOKENS)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([" " * count for count in range(5, 1, -1)] + ["\t\t"])
    tokenizer.save(str(folder / "tokenizer.json"))
    change_json(folder / "tokenizer_config.json", tokenizer_class="CodeGenTokenizer")


def _adapted(folder: Path) -> GPTJForCausalLM:
    """A model with an adapter in a folder of its own inside."""
    make_checkpoint(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    a, b = torch.ones(2, 128) / 8, torch.arange(64.0).view(32, 2) / 64
    module = "transformer.h.0.mlp.fc_out"
    tensors = {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
    make_adapter(folder / "adapter", tensors)
    with torch.no_grad():
        model.get_submodule(module).weight += 2 * b @ a
    return model  # type: ignore[no-any-return]


ZOO: dict[str, Make] = {
    # weights
    "one safetensors file, float32": make_checkpoint,
    "one safetensors file, float16": _half("safetensors"),
    "one safetensors file, bfloat16": partial(make_checkpoint, dtype=torch.bfloat16),
    "safetensors in shards with an index": _half("safetensors-sharded"),
    "safetensors in shards without an index": _without_index("safetensors-sharded"),
    "one .bin file with masks, float32": partial(make_checkpoint, layout="bin"),
    "one .bin file with masks, float16": _half("bin"),
    "one .bin file with masks, bfloat16": partial(
        make_checkpoint, layout="bin", dtype=torch.bfloat16
    ),
    ".bin with a table of positions": _with_positions,
    ".bin of torch before 1.6": _half("bin-legacy"),
    ".bin in shards with an index": _half("bin-sharded"),
    ".bin in shards without an index": _without_index("bin-sharded"),
    "safetensors beside another .bin": _in_both_formats,
    "names without the prefix transformer": _renamed(_without_prefix),
    "a value head beside": _renamed(_with_value_head),
    "head tied, not stored": _tied(stored=False),
    "head tied, stored too": _tied(stored=True),
    "8 bits of bitsandbytes": _eight_bit,
    "a LoRA adapter": _adapted,
    # sizes
    "vocabulary without padding": _sized(vocab_size=TEXT_TOKENS),
    "vocabulary padded to a multiple of 64": _sized(vocab_size=384),
    "vocabulary of an odd size": _sized(vocab_size=TEXT_TOKENS + 1),
    "rotary_dim null": _null_rotary_dim,
    "rotary positions on the whole head": _sized(rotary_dim=8),
    "n_inner given": _sized(n_inner=80),
    "another activation": _sized(activation_function="relu"),
    "another epsilon": _sized(layer_norm_epsilon=0.1),
    "sizes under their general names": _other_names,
    "fields of old versions": _old_fields,
    # what ends a text
    "end in config.json, an id": _ending(203),
    "end in config.json, a list": _ending([END, 203]),
    "end in generation_config.json, an id": _ending(END, {"eos_token_id": 203}),
    "end in generation_config.json, a list": _ending(END, {"eos_token_id": [END, 203, 264]}),
    "end in the tokenizer only": _ending(None),
    "end beyond the vocabulary in config.json": _ending(50256),
    "suppressed tokens": _ending(END, {"eos_token_id": END, "suppress_tokens": [70, 130]}),
    # tokenizers
    "vocab.json and merges.txt, all files": _files(
        "added_tokens.json", "special_tokens_map.json", "tokenizer_config.json"
    ),
    "vocab.json and merges.txt, end among them": _files(
        "end in vocab.json", "special_tokens_map.json"
    ),
    "a beginning added by a post-processor": _tokenizer(_begins),
    "a stored length": _tokenizer(_truncates, model_max_length=1024),
    "added tokens": _tokenizer(_adds_tokens),
    "added special tokens, one of them the end": _tokenizer(
        _adds_special_tokens,
        eos_token="### End",
        additional_special_tokens=["### End", "### Instruction:", "### Response:\n"],
    ),
    "a padding token": _tokenizer(_adds_padding, pad_token="[PAD]"),
    "a space before the text": _tokenizer(_nothing, add_prefix_space=True),
    "tokenizer class PreTrainedTokenizerFast": _tokenizer(
        _nothing, tokenizer_class="PreTrainedTokenizerFast"
    ),
    # relatives
    "CodeGen": make_codegen,
    "CodeGen with tokens for runs of spaces": _codegen_with_spaces,
}
