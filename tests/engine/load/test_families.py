"""What a folder must hold to be taken as a GPT-J."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPTJForCausalLM

from gptj_demo.engine.load import (
    make_plan,
)
from gptj_demo.engine.load.plan import GPT_J
from gptj_demo.settings import Settings
from tests.engine.checkpoints import (
    copy_checkpoint,
    make_checkpoint,
    make_config,
)
from tests.engine.load.conftest import refusal


def test_a_folder_or_a_weight_file_in_it_is_a_model(tiny: Path, machine: Any) -> None:
    for model in (tiny, tiny / "model.safetensors"):
        plan = make_plan(Settings(model=str(model)))
        assert (plan.name, plan.source, plan.is_sample) == ("tiny", str(tiny), False)


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (("config.json",), "config.json"),
        (("model.safetensors",), "no weights"),
        (("tokenizer.json",), "no tokenizer"),
    ],
)
def test_a_folder_that_lacks_a_part_is_refused(
    files: tuple[str, ...], named: str, tiny: Path, tmp_path: Path, machine: Any
) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy", without=files)
    message = refusal(model=str(folder))
    assert str(folder) in message
    assert named in message


def test_a_missing_shard_is_refused_by_name(tmp_path: Path, machine: Any) -> None:
    folder = make_checkpoint(tmp_path, layout="bin-sharded")
    (folder / "pytorch_model-00002-of-00003.bin").unlink()
    message = refusal(model=str(folder))
    assert "1 of its 3 weight files" in message
    assert "pytorch_model-00002-of-00003.bin" in message


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "gpt2"}, "not a GPT-J"),
        ({"model_type": None}, "not a GPT-J"),
        ({"n_layer": "many"}, "n_layer"),
        ({"quantization_config": {"load_in_4bit": True}}, "quantized"),
    ],
)
def test_a_configuration_that_is_not_a_gpt_j_is_refused(
    change: dict[str, Any], named: str, tiny: Path, tmp_path: Path, machine: Any
) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy")
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **change}))
    assert named in refusal(model=str(folder))


def transformers_runs(values: dict[str, Any]) -> bool:
    try:
        model = GPTJForCausalLM(make_config(**values))
        model(torch.arange(5)[None])
    except Exception:  # of many kinds, from the configuration's checks to a product's sizes
        return False
    return True


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"n_head": 5}, "n_embd"),
        ({"rotary_dim": 10}, "rotary_dim"),
        ({"rotary_dim": 3}, "rotary_dim"),
        ({"rotary_dim": -2}, "rotary_dim"),
        ({"n_head": 0}, "n_head"),
        ({"n_head": -4}, "n_head"),
        ({"n_embd": -32}, "n_embd"),
        ({"vocab_size": -1}, "vocab_size"),
        ({"n_positions": -64}, "n_positions"),
        ({"n_inner": -8}, "n_inner"),
        ({"n_layer": True}, "n_layer is true"),
        ({"n_embd": 32.0}, "n_embd is 32.0"),
        ({"n_positions": float("nan")}, "n_positions is NaN"),
        ({"n_head": "4"}, 'n_head is "4"'),
        ({"vocab_size": [320]}, "vocab_size is a list"),
        ({"activation_function": "none"}, 'activation_function is "none", and must be one of'),
        ({"layer_norm_epsilon": "small"}, "layer_norm_epsilon"),
        ({"bos_token_id": 1.5}, "bos_token_id is 1.5"),
        ({"eos_token_id": ["a"]}, "eos_token_id is a list"),
    ],
)
def test_sizes_that_transformers_cannot_run_are_refused(
    values: dict[str, Any], named: str, tiny: Path, tmp_path: Path, machine: Any
) -> None:
    assert not transformers_runs(values)
    folder = copy_checkpoint(tiny, tmp_path / "copy")
    written = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**written, **values}))
    assert named in refusal(model=str(folder))


@pytest.mark.parametrize("values", [{"rotary_dim": 8}, {"rotary_dim": 2}, {"n_head": 1}])
def test_sizes_at_the_limits_are_accepted(
    values: dict[str, Any], tmp_path: Path, machine: Any
) -> None:
    assert transformers_runs(values)
    make_plan(Settings(model=str(make_checkpoint(tmp_path, **values))))


@pytest.mark.parametrize("values", [{"n_layer": 10**6}, {"n_positions": 10**40}])
def test_sizes_beyond_any_memory_are_refused(
    values: dict[str, Any], tiny: Path, tmp_path: Path, machine: Any
) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy")
    written = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**written, **values}))
    assert refusal(model=str(folder))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"a": ' * 100_000])
def test_a_configuration_that_cannot_be_read_is_refused(
    text: str, tiny: Path, tmp_path: Path, machine: Any
) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy")
    (folder / "config.json").write_text(text)
    assert "config.json" in refusal(model=str(folder))


@pytest.mark.parametrize("name", ["../outside/x.safetensors", "x/y.safetensors", "config.json", 7])
def test_an_index_that_names_another_path_is_refused(
    name: Any, tmp_path: Path, machine: Any
) -> None:
    folder = make_checkpoint(tmp_path, layout="safetensors-sharded")
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["lm_head.bias"] = name
    path.write_text(json.dumps(index))
    message = refusal(model=str(folder))
    assert "must name .safetensors files in its folder" in message


def test_a_link_out_of_the_folder_is_refused(tiny: Path, tmp_path: Path, machine: Any) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy", without=("config.json",))
    (folder / "config.json").symlink_to(tiny / "config.json")
    assert "a link to a file outside of the folder" in refusal(model=str(folder))


def test_links_within_the_cache_of_the_hub_are_followed(
    tiny: Path, tmp_path: Path, machine: Any
) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "models--x--y" / "snapshots" / ("0" * 8))
    blobs = tmp_path / "models--x--y" / "blobs"
    blobs.mkdir()
    for path in list(folder.iterdir()):
        path.rename(blobs / path.name)
        path.symlink_to(blobs / path.name)
    make_plan(Settings(model=str(folder)))


@pytest.mark.parametrize("model", ["/nowhere/gpt-j", "./gpt-j", "~/gpt-j", "a/b/c", "gpt-j"])
def test_a_model_that_is_neither_a_folder_nor_a_hub_id_is_refused(model: str, machine: Any) -> None:
    message = refusal(model=model)
    assert model in message
    assert GPT_J in message


def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, machine: Any) -> None:
    file = tmp_path / "gpt-j.gguf"
    file.touch()
    assert str(file) in refusal(model=str(file))
