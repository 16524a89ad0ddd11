"""Adapters that peft writes give the logits of peft's own merge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from gptj_demo.engine.load import load_model, make_plan
from gptj_demo.settings import Settings
from tests.engine.checkpoints import make_checkpoint
from tests.engine.load.conftest import ignore
from tests.engine.relatives import make_codegen

peft = pytest.importorskip("peft", reason="in requirements-dev.txt, which `make test` installs")

LINEARS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out"]
PROMPT = torch.tensor([[7, 90, 17, 3, 255, 40, 41, 41, 200]])

# name -> fields of LoraConfig; `written` says how the base model and the adapter are written
CASES: dict[str, dict[str, Any]] = {
    "queries and values": {"target_modules": ["q_proj", "v_proj"]},
    "all linear layers, rank-stabilized": {"target_modules": LINEARS, "use_rslora": True},
    "patterns of ranks and alphas": {
        "target_modules": LINEARS,
        "rank_pattern": {"q_proj": 2, r"h\.1\.mlp\.fc_.*": 6, "out_proj": 5},
        "alpha_pattern": {"v_proj": 1, "transformer.h.0.attn.q_proj": 32},
    },
    "patterns, rank-stabilized": {
        "target_modules": ["q_proj", "fc_in"],
        "use_rslora": True,
        "rank_pattern": {"^transformer.h.0.attn.q_proj": 3},
        "alpha_pattern": {"fc_in": 2.5},
    },
    "DoRA": {"target_modules": LINEARS, "use_dora": True},
    "an embedding": {"target_modules": ["wte", "k_proj"]},
    "DoRA of embedding and head": {
        "target_modules": ["wte", "lm_head", "q_proj"],
        "use_dora": True,
    },
    "modules trained whole": {
        "target_modules": ["q_proj"],
        "modules_to_save": ["lm_head", "wte", "ln_f"],
    },
    "all biases": {"target_modules": ["q_proj", "fc_in"], "bias": "all"},
    "all biases and modules trained whole": {
        "target_modules": ["fc_out"],
        "modules_to_save": ["lm_head"],
        "bias": "all",
    },
    "biases of the layers": {"target_modules": ["fc_in", "fc_out", "q_proj"], "bias": "lora_only"},
    "biases of the products": {"target_modules": ["fc_in", "fc_out", "lm_head"], "lora_bias": True},
    "some layers by an expression": {"target_modules": r".*\.h\.1\.(attn\.[qk]_proj|mlp\.fc_in)"},
    "some layers by number": {"target_modules": LINEARS, "layers_to_transform": [0]},
    "transposed": {"target_modules": ["q_proj", "wte"], "fan_in_fan_out": True},
    "a pickle": {"target_modules": LINEARS, "written": {"layout": "bin"}},
    "a tied model": {
        "target_modules": ["wte", "q_proj"],
        "written": {"base": {"tie_word_embeddings": True}},
    },
    "the head of a tied model": {
        "target_modules": ["lm_head"],
        "written": {"base": {"tie_word_embeddings": True}},
    },
    "CodeGen": {
        "target_modules": ["qkv_proj", "out_proj"],
        "written": {"make": make_codegen},
    },
    "CodeGen, DoRA": {
        "target_modules": ["qkv_proj", "fc_in"],
        "use_dora": True,
        "written": {"make": make_codegen},
    },
}


def randomize(model: torch.nn.Module, seed: int) -> None:
    """Change all parameters that peft trains; their initial values have no effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)


def write_adapter(base: Path, folder: Path, seed: int = 0, **fields: Any) -> Path:
    written = fields.pop("written", {})
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    options = {"r": 4, "lora_alpha": 6, "task_type": "CAUSAL_LM", **fields}
    trained = peft.get_peft_model(model, peft.LoraConfig(**options))
    randomize(trained, seed)
    trained.save_pretrained(folder)
    if written.get("layout") == "bin":  # what old versions of peft wrote
        tensors = load_file(folder / "adapter_model.safetensors")
        torch.save(tensors, folder / "adapter_model.bin")
        (folder / "adapter_model.safetensors").unlink()
    return folder


def logits_of(model: Any) -> torch.Tensor:
    model.train(False)
    with torch.inference_mode():
        logits: torch.Tensor = model(PROMPT).logits
    return logits


def by_peft(base: Path, *adapters: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    for adapter in adapters:
        model = peft.PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return logits_of(model)


def by_us(base: Path, setting: str) -> torch.Tensor:
    plan = make_plan(Settings(model=str(base), adapter=setting, precision="float32"))
    return logits_of(load_model(plan, ignore))


@pytest.mark.filterwarnings("ignore")  # peft warns about several of these
@pytest.mark.parametrize("case", CASES)
def test_the_logits_are_those_of_pefts_merge(case: str, tmp_path: Path, machine: Any) -> None:
    fields = dict(CASES[case])
    written = fields.get("written", {})
    make: Callable[..., Path] = written.get("make", make_checkpoint)
    base = make(tmp_path / "base", **written.get("base", {}))
    adapter = write_adapter(base, tmp_path / "adapter", **fields)
    expected = by_peft(base, adapter)
    difference = (by_us(base, str(adapter)) - expected).abs().max().item()
    effect = (logits_of(AutoModelForCausalLM.from_pretrained(base)) - expected).abs().max().item()
    assert effect > 0.05, "the adapter changes nothing"
    assert difference < 1e-5


@pytest.mark.filterwarnings("ignore")
def test_several_adapters_are_merged_one_after_another(tmp_path: Path, machine: Any) -> None:
    base = make_checkpoint(tmp_path / "base")
    one = write_adapter(base, tmp_path / "one", 1, target_modules=LINEARS)
    two = write_adapter(base, tmp_path / "two", 2, target_modules=["q_proj"], use_dora=True)
    difference = by_us(base, f"{one},{two}") - by_peft(base, one, two)
    assert difference.abs().max().item() < 1e-5


@pytest.mark.filterwarnings("ignore")
def test_weights_are_those_of_pefts_weighted_adapters(tmp_path: Path, machine: Any) -> None:
    base = make_checkpoint(tmp_path / "base")
    one = write_adapter(base, tmp_path / "one", 1, target_modules=["q_proj", "fc_in"])
    two = write_adapter(base, tmp_path / "two", 2, target_modules=["q_proj", "fc_in"])
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    weighted = peft.PeftModel.from_pretrained(model, one, adapter_name="one")
    weighted.load_adapter(two, adapter_name="two")
    weighted.add_weighted_adapter(["one", "two"], [0.7, 0.2], "both", combination_type="cat")
    weighted.set_adapter("both")
    difference = by_us(base, f"{one}=0.7,{two}=0.2") - logits_of(weighted.merge_and_unload())
    assert difference.abs().max().item() < 1e-5
