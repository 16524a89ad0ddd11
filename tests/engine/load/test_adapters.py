"""LoRA adapters are merged as peft merges them, and those that do not fit are refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear8bitLt

from gptj_demo.api.openai import fingerprint
from gptj_demo.engine.load import Refusal, load_model, make_plan
from gptj_demo.engine.loop import load as load_engine
from gptj_demo.engine.model.int8 import quantize
from gptj_demo.protocol import EngineStatus
from gptj_demo.settings import Settings
from tests.engine.checkpoints import make_checkpoint, make_model
from tests.engine.fake_hub import FakeHub
from tests.engine.load.conftest import Reports, ignore, refusal
from tests.engine.load.test_weights import RunsACommand
from tests.engine.relatives import Tensors, make_adapter, make_codegen, random_pairs

QUERY, VALUE = "transformer.h.0.attn.q_proj", "transformer.h.1.attn.v_proj"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """Rank 2 and alpha 4, so that the product is scaled by 2."""
    return make_adapter(tmp_path / "adapter", random_pairs(QUERY, VALUE))


def load(model: Path | str, adapter: object, precision: str = "float32") -> Any:
    settings = Settings(model=str(model), adapter=str(adapter) or None, precision=precision)
    return load_model(make_plan(settings), ignore)


def refused(model: Path, adapter: object) -> str:
    with pytest.raises(Refusal) as caught:
        load(model, adapter)
    assert str(caught.value).endswith(".")
    return str(caught.value)


def merged(adapter: Tensors, scale: float = 2.0) -> Tensors:
    """The weights of the tiny model with the adapter's products, by the formula."""
    weights = {name: tensor.clone() for name, tensor in make_model().state_dict().items()}
    for name, a in adapter.items():
        if name.endswith(".lora_A.weight"):
            module = name.removesuffix(".lora_A.weight")
            weights[f"{module}.weight"] += scale * adapter[f"{module}.lora_B.weight"] @ a
    return weights


def assert_holds(model: Any, expected: Tensors) -> None:
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize("layout", ["safetensors", "bin"])
@pytest.mark.parametrize("base", ["safetensors", "bin-legacy"])
def test_an_adapter_is_added_to_the_weights(
    layout: str, base: Any, tmp_path: Path, machine: Any
) -> None:
    tensors = random_pairs(QUERY, VALUE)
    adapter = make_adapter(tmp_path / "adapter", tensors, layout=layout)
    model = make_checkpoint(tmp_path / "model", layout=base)
    assert_holds(load(model, adapter), merged(tensors))


def test_the_sum_is_rounded_once(tiny: Path, adapter: Path, machine: Any) -> None:
    exact = load(tiny, adapter).state_dict()
    for name, tensor in load(tiny, adapter, "float16").state_dict().items():
        assert torch.equal(tensor, exact[name].half()), name
    for name, module in load(tiny, adapter, "int8").named_modules():
        if isinstance(module, Linear8bitLt):
            codes, largest = quantize(exact[f"{name}.weight"])
            assert torch.equal(module.weight.data, codes), name
            assert torch.equal(module.weight.SCB, largest), name


def test_several_adapters_are_added_with_their_weights(
    tiny: Path, tmp_path: Path, machine: Any
) -> None:
    one, other = random_pairs(QUERY, VALUE), random_pairs(QUERY, seed=2)
    make_adapter(tmp_path / "one", one)
    make_adapter(tmp_path / "other", other)
    expected = merged(one, 0.5 * 2)
    change = 2 * -1.5 * other[f"{QUERY}.lora_B.weight"] @ other[f"{QUERY}.lora_A.weight"]
    expected[f"{QUERY}.weight"] += change
    setting = f"{tmp_path / 'one'}=0.5, {tmp_path / 'other'} = -1.5"
    assert_holds(load(tiny, setting), expected)


def test_a_fully_trained_tensor_is_interpolated_with_the_weight_of_the_adapter(
    tiny: Path, tmp_path: Path, machine: Any
) -> None:
    base = make_model().state_dict()["lm_head.bias"]
    make_adapter(tmp_path / "adapter", {"lm_head.bias": base + 1})
    assert torch.equal(load(tiny, tmp_path / "adapter").lm_head.bias, base + 1)
    half = load(tiny, f"{tmp_path / 'adapter'}=0.5").lm_head.bias
    torch.testing.assert_close(half.data, base + 0.5)


def test_masks_that_are_named_bias_are_left_out(tiny: Path, tmp_path: Path, machine: Any) -> None:
    tensors = random_pairs(QUERY)
    masks = {
        "transformer.h.0.attn.bias": torch.ones(1, 1, 64, 64, dtype=torch.bool),
        "transformer.h.0.attn.masked_bias": torch.tensor(-1e9),
    }
    adapter = make_adapter(tmp_path / "adapter", {**tensors, **masks}, bias="all")
    assert_holds(load(tiny, adapter), merged(tensors))


def test_an_adapter_of_a_joint_projection_is_split_over_its_parts(
    tmp_path: Path, machine: Any
) -> None:
    model = make_codegen(tmp_path / "model")
    module = "transformer.h.1.attn.qkv_proj"
    tensors = {
        f"{module}.lora_A.weight": torch.randn(2, 32),
        f"{module}.lora_B.weight": torch.zeros(96, 2),
    }
    tensors[f"{module}.lora_B.weight"][8:16] = 1  # the values of the first of four parts
    adapter = make_adapter(tmp_path / "adapter", tensors)
    change = 2 * tensors[f"{module}.lora_A.weight"].sum(dim=0)
    before, after = load(model, "").state_dict(), load(model, adapter).state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["transformer.h.1.attn.v_proj.weight"]
    difference = after[changed[0]] - before[changed[0]]
    torch.testing.assert_close(difference[:8], change.expand(8, 32), atol=1e-6, rtol=1e-6)
    assert not difference[8:].any()


def test_the_base_model_is_the_one_that_the_adapter_names(
    tiny: Path, tmp_path: Path, machine: Any
) -> None:
    tensors = random_pairs(QUERY)
    make_adapter(tmp_path / "one", tensors, base_model_name_or_path=str(tiny))
    settings = Settings(adapter=str(tmp_path / "one"))
    plan = make_plan(settings)
    assert (plan.name, plan.is_sample) == ("tiny", False)
    assert "The adapter names this model as its base." in str(plan.why)
    assert_holds(load_model(plan, ignore), merged(tensors))
    make_adapter(tmp_path / "other", tensors, base_model_name_or_path="someone/other")
    both = f"{tmp_path / 'one'},{tmp_path / 'other'}"
    assert "name different base models" in refusal(adapter=both)
    make_adapter(tmp_path / "none", tensors)
    assert "names no base model: set model to it" in refusal(adapter=str(tmp_path / "none"))


def test_an_adapter_and_its_base_come_from_the_hub(
    tiny: Path, tmp_path: Path, machine: Any, hub: FakeHub
) -> None:
    tensors = random_pairs(QUERY)
    folder = make_adapter(
        tmp_path / "adapter", tensors, base_model_name_or_path="someone/gpt-j-tuned"
    )
    (folder / "training_args.bin").write_text("not needed")
    hub.publish("someone/gpt-j-tuned", "main", tiny)
    hub.publish("other/gpt-j-lora", "main", folder)
    plan = make_plan(Settings(adapter="other/gpt-j-lora=1"))
    assert [one.label for one in plan.adapters] == ["other/gpt-j-lora"]
    fetched = {line.split("/", 1)[1] for line in hub.fetched}
    assert "adapter_config.json" in fetched
    assert "adapter_model.safetensors" not in fetched
    reports: Reports = []
    model = load_model(plan, lambda detail, progress: reports.append((str(detail), progress)))
    assert_holds(model, merged(tensors))
    assert "training_args.bin" not in {line.split("/", 1)[1] for line in hub.fetched}
    hub.disconnect()
    assert_holds(load("auto", "other/gpt-j-lora"), merged(tensors))


def test_the_model_reports_its_adapters(tiny: Path, adapter: Path) -> None:
    sent: list[Any] = []
    load_engine(Settings(model=str(tiny), adapter=f"{adapter}=0.5", max_num_seqs=1), sent.append)
    infos = [one.model for one in sent if isinstance(one, EngineStatus) and one.model is not None]
    info = infos[-1]
    assert info.adapters == ("adapter=0.5",)
    assert info.full_name == f"{tiny.name} + adapter=0.5"
    assert fingerprint(info) != fingerprint(replace(info, adapters=()))


# ---- what is refused


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (
            random_pairs("transformer.h.0.attn.c_attn"),
            "made for another model: {model} has no tensor for its "
            "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight",
        ),
        (random_pairs("transformer.h.2.attn.q_proj"), "no tensor for its base_model.model.trans"),
        (random_pairs("lm_head.bias"), "no tensor for its"),
        ({"score.weight": torch.ones(2, 32)}, "no tensor for its base_model.model.score.weight"),
        ({f"{QUERY}.lora_C.weight": torch.ones(2, 32)}, "no tensor for its"),
        (random_pairs(QUERY, width=24), f"{QUERY}.lora_A is [2, 24], not [2, 32]"),
        (random_pairs(QUERY, rank=3), f"{QUERY}.lora_A is [3, 32], not [2, 32]"),
        ({"lm_head.weight": torch.ones(322, 32)}, "lm_head.weight is [322, 32], not [320, 32]"),
        ({f"{QUERY}.lora_A.weight": torch.ones(2, 32)}, f"lacks lora_B of {QUERY}"),
        ({f"{QUERY}.lora_magnitude_vector": torch.ones(32)}, f"lacks lora_A of {QUERY}"),
        (
            {**random_pairs(QUERY), f"{QUERY}.lora_magnitude_vector": torch.ones(31)},
            "lora_magnitude_vector is [31], not [32]",
        ),
        (
            {**random_pairs(QUERY), f"{QUERY}.lora_B.bias": torch.ones(32)},
            f"no tensor for its {QUERY}.lora_B.bias",
        ),
        ({f"{QUERY}.lora_A.weight": torch.ones(2, 32).to(torch.int8)}, "is of type I8, and must"),
        ({}, "has no tensors"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_by_name(
    tensors: Tensors, said: str, tiny: Path, tmp_path: Path, machine: Any
) -> None:
    message = refused(tiny, make_adapter(tmp_path / "my-lora", tensors))
    assert "my-lora" in message
    assert said.format(model=tiny) in message


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"peft_type": "PREFIX_TUNING"}, 'is of the kind "PREFIX_TUNING", and only LORA'),
        ({"peft_type": None}, "is of the kind null"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4 changed before the training"),
        ({"trainable_token_indices": [1]}, "is made with trainable_token_indices"),
        ({"r": 0}, "r is 0, and must be a whole number from 1"),
        ({"r": "8"}, 'r is "8"'),
        ({"lora_alpha": float("nan")}, "lora_alpha is NaN"),
        ({"use_rslora": 1}, "use_rslora is 1"),
        ({"rank_pattern": ["q_proj"]}, "rank_pattern is a list"),
        ({"rank_pattern": {"q_proj": 2.5}}, "rank_pattern of q_proj is 2.5"),
        ({"alpha_pattern": {"(": 2}}, 'alpha_pattern has "(", which is no regular expression'),
        ({"base_model_name_or_path": 7}, "base_model_name_or_path is 7"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused(
    fields: dict[str, Any], said: str, tiny: Path, tmp_path: Path, machine: Any
) -> None:
    adapter = make_adapter(tmp_path / "my-lora", random_pairs(QUERY), **fields)
    message = refusal(model=str(tiny), adapter=str(adapter))
    assert "my-lora" in message
    assert said in message


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("/nowhere/lora", "The adapter /nowhere/lora was not found"),
        ("{adapter}=much", 'is "much", and must be a number'),
        ("{adapter}=nan", 'is "nan", and must be a number'),
        ("{adapter}=1e9", 'is "1e9", and must be a number from -100 to 100'),
        ("{model}", "has no adapter_config.json, so it is not an adapter"),
        ("nobody/nothing", "neither a folder here nor a model on the hub"),
    ],
)
def test_a_setting_that_names_no_adapter_is_refused(
    setting: str, said: str, tiny: Path, adapter: Path, machine: Any, hub: FakeHub
) -> None:
    message = refusal(model=str(tiny), adapter=setting.format(adapter=adapter, model=tiny))
    assert said in message


def test_an_adapter_without_weights_is_refused(tiny: Path, adapter: Path, machine: Any) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    assert "has no weights" in refusal(model=str(tiny), adapter=str(adapter))


def test_code_in_an_adapter_is_not_run(tiny: Path, tmp_path: Path, machine: Any) -> None:
    adapter = make_adapter(tmp_path / "adapter", random_pairs(QUERY), layout="bin")
    evidence = tmp_path / "evidence"
    torch.save({"x": RunsACommand(evidence)}, adapter / "adapter_model.bin")
    assert "code, which is not run" in refused(tiny, adapter)
    assert not evidence.exists()


def test_a_link_out_of_the_adapters_folder_is_not_followed(
    tiny: Path, adapter: Path, tmp_path: Path, machine: Any
) -> None:
    (adapter / "adapter_model.safetensors").rename(tmp_path / "elsewhere")
    (adapter / "adapter_model.safetensors").symlink_to(tmp_path / "elsewhere")
    assert "a link to a file outside of the folder" in refused(tiny, adapter)
