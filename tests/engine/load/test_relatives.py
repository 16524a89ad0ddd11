"""CodeGen and checkpoints in 8 bits are loaded as the GPT-J they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear8bitLt
from safetensors.torch import load_file, save_file
from transformers import CodeGenForCausalLM

from gptj_demo.engine.load import Refusal, load_tokenizer, make_plan
from gptj_demo.settings import Settings
from tests.engine.checkpoints import (
    END_OF_TEXT,
    LAYOUTS,
    Layout,
    copy_checkpoint,
    make_checkpoint,
)
from tests.engine.fake_hub import FakeHub
from tests.engine.load.conftest import PRECISIONS, ignore, load, refusal
from tests.engine.relatives import change_json, make_codegen, make_eight_bit

PROMPT = torch.tensor([[7, 90, 17, 3, 255, 40, 41, 41, 200]])
SIZES: dict[str, dict[str, Any]] = {
    "four heads": {},
    "eight heads, rotary on all dimensions": {
        "n_embd": 48,
        "n_head": 8,
        "n_layer": 3,
        "rotary_dim": 6,
    },
    "twelve heads, another inner width": {
        "n_embd": 96,
        "n_head": 12,
        "n_inner": 40,
        "rotary_dim": 2,
        "n_positions": 48,
    },
}


def logits_of(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(PROMPT).logits
    return logits


# ---- CodeGen


@pytest.mark.parametrize("size", SIZES)
def test_codegen_has_the_logits_of_transformers(size: str, tmp_path: Path, machine: Any) -> None:
    folder = make_codegen(tmp_path, **SIZES[size])
    expected = logits_of(CodeGenForCausalLM.from_pretrained(folder, dtype=torch.float32))
    assert (logits_of(load(folder, "float32")) - expected).abs().max().item() <= 1e-6


@pytest.mark.parametrize("layout", LAYOUTS)
def test_codegen_is_the_same_in_every_layout(layout: Layout, tmp_path: Path, machine: Any) -> None:
    folder = make_codegen(tmp_path, layout=layout, dtype=torch.float16)
    expected = CodeGenForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert (logits_of(load(folder, "float32")) - logits_of(expected)).abs().max().item() <= 1e-6


@pytest.mark.parametrize("precision", PRECISIONS)
def test_codegen_takes_the_bytes_that_are_planned(
    precision: str, tmp_path: Path, machine: Any
) -> None:
    from gptj_demo.engine.load import weight_bytes

    model = load(make_codegen(tmp_path), precision)
    linears = [one for one in model.modules() if isinstance(one, Linear8bitLt)]
    assert len(linears) == (12 if precision == "int8" else 0)
    scales = sum(one.weight.SCB.nbytes for one in linears)
    taken = sum(parameter.nbytes for parameter in model.parameters()) + scales
    assert weight_bytes(model.config, precision) == taken


def test_codegens_tokenizer_and_licence_are_its_own(
    tmp_path: Path, machine: Any, hub: FakeHub
) -> None:
    hub.publish("Salesforce/codegen-350M-nl", "main", make_codegen(tmp_path / "model"))
    plan = make_plan(Settings(model="Salesforce/codegen-350M-nl"))
    assert (plan.name, plan.family.maker, plan.licence) == (
        "codegen-350M-nl",
        "Salesforce",
        "BSD 3-Clause",
    )
    ready, _ = load_tokenizer(plan, ignore)
    assert ready.eos_token_ids == (ready.bos_token_id,)  # and not the config's 1
    assert END_OF_TEXT in ready.tokenizer_json
    hub.publish("someone/codegen-tuned", "main", tmp_path / "model")
    assert make_plan(Settings(model="someone/codegen-tuned")).licence is None


@pytest.mark.parametrize("values", [{"n_head": 2}, {"n_head": 6, "n_embd": 48}])
def test_a_codegen_that_cannot_be_cut_over_four_cores_is_refused(
    values: dict[str, Any], tmp_path: Path, machine: Any
) -> None:
    folder = make_codegen(tmp_path)
    change_json(folder / "config.json", **values)
    assert "must be divisible by 4" in refusal(model=str(folder))


def test_the_tensors_of_the_other_family_are_refused(tmp_path: Path, machine: Any) -> None:
    codegen, gptj = make_codegen(tmp_path / "codegen"), make_checkpoint(tmp_path / "gptj")
    for folder, kind in ((codegen, "gptj"), (gptj, "codegen")):
        change_json(folder / "config.json", model_type=kind)
        with pytest.raises(Refusal, match=r"lack \d+ tensors?, transformer\.h\.0\.attn\."):
            load(folder, "float32")


# ---- 8 bits of bitsandbytes


def test_stored_int8_codes_are_used_unchanged(tmp_path: Path, machine: Any) -> None:
    folder, _ = make_eight_bit(tmp_path / "model")
    stored = load_file(folder / "model.safetensors")
    model = load(folder, "auto")
    linears = {n: m for n, m in model.named_modules() if isinstance(m, Linear8bitLt)}
    assert len(linears) == 12
    for name, linear in linears.items():
        assert torch.equal(linear.weight.data, stored[f"{name}.weight"])
        assert torch.equal(linear.weight.SCB, stored[f"{name}.SCB"])
    assert torch.equal(model.lm_head.weight.data, stored["lm_head.weight"])


def test_int8_codes_are_dequantised_for_other_precisions(tmp_path: Path, machine: Any) -> None:
    folder, weights = make_eight_bit(tmp_path / "model")
    for precision in ("float32", "bfloat16"):
        for name, tensor in load(folder, precision).state_dict().items():
            dtype = getattr(torch, precision)
            torch.testing.assert_close(tensor, weights[name].to(dtype), atol=1e-7, rtol=4e-3)
    exact = load(folder, "float32").state_dict()
    for name, tensor in exact.items():
        torch.testing.assert_close(tensor, weights[name], atol=1e-7, rtol=1e-6)


def test_the_plan_reports_that_the_model_is_stored_in_8_bits(
    full_size: Path, tmp_path: Path, machine: Any
) -> None:
    folder = copy_checkpoint(full_size, tmp_path / "copy")
    change_json(folder / "config.json", quantization_config={"load_in_8bit": True})
    machine(gpu=72)
    plan = make_plan(Settings(model=str(folder)))
    assert plan.precision == "int8"
    assert "The checkpoint is stored in int8." in str(plan.why)
    assert make_plan(Settings(model=str(folder), precision="float16")).precision == "float16"


def test_layers_that_were_left_in_16_bits_are_quantised(tmp_path: Path, machine: Any) -> None:
    """bitsandbytes' llm_int8_skip_modules."""
    folder, weights = make_eight_bit(tmp_path / "model")
    stored = load_file(folder / "model.safetensors")
    name = "transformer.h.0.mlp.fc_in"
    stored[f"{name}.weight"] = weights[f"{name}.weight"].half()
    del stored[f"{name}.SCB"], stored[f"{name}.weight_format"]
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    layer = load(folder, "int8").get_submodule(name)
    assert isinstance(layer, Linear8bitLt)
    error = layer.weight.data * (layer.weight.SCB / 127)[:, None] - weights[f"{name}.weight"]
    assert error.abs().max() < 0.01


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({".SCB": torch.ones(31)}, "SCB is [31], not [32]"),
        ({".SCB": None}, "is of type I8, and must be a tensor of type"),
        ({".weight_format": torch.tensor(2, dtype=torch.uint8)}, "in an order that only"),
        ({".weight": torch.zeros(32, 32)}, "is of type F32, and must be a tensor of type int8"),
    ],
)
def test_damaged_codes_are_refused(
    changes: dict[str, Any], said: str, tmp_path: Path, machine: Any
) -> None:
    folder, _ = make_eight_bit(tmp_path / "model")
    stored = load_file(folder / "model.safetensors")
    for ending, tensor in changes.items():
        name = f"transformer.h.1.attn.k_proj{ending}"
        del stored[name]
        if tensor is not None:
            stored[name] = tensor
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Refusal) as caught:
        load(folder, "int8")
    assert said in str(caught.value)


# ---- other kinds of quantized checkpoints


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("absmax", "code"), "in blocks of 8 bits, as hivemind/gpt-j-6B-8bit is"),
        (("qweight", "qzeros", "scales", "g_idx"), "in the 4 bits of GPTQ or AWQ"),
        (("weight.absmax", "weight.quant_map"), "in the 4 bits of bitsandbytes"),
    ],
)
def test_other_quantisations_are_refused_by_their_tensors(
    names: tuple[str, ...], said: str, tiny: Path, tmp_path: Path, machine: Any
) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy")
    stored = load_file(folder / "model.safetensors")
    stored["transformer.h.0.attn.q_proj.weight"] = torch.zeros(32, 32, dtype=torch.uint8)
    for name in names:
        stored[f"transformer.h.0.attn.q_proj.{name}"] = torch.zeros(8)
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Refusal) as caught:
        load(folder, "float32")
    assert said in str(caught.value)
    assert "take the checkpoint it was made from, such as EleutherAI/gpt-j-6b" in str(caught.value)


@pytest.mark.parametrize(
    ("quantization", "said"),
    [
        ({"quant_method": "gptq", "bits": 4}, 'with "gptq"'),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "in 4 bits"),
        ({"quant_method": "awq"}, 'with "awq"'),
        ([8], "with null"),
    ],
)
def test_other_quantisations_are_refused_by_their_configuration(
    quantization: Any, said: str, tiny: Path, tmp_path: Path, machine: Any
) -> None:
    folder = copy_checkpoint(tiny, tmp_path / "copy")
    change_json(folder / "config.json", quantization_config=quantization)
    message = refusal(model=str(folder))
    assert "is stored quantized already" in message
    assert said in message
