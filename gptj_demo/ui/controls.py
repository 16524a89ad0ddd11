"""The controls' panel, made from the table in `sampling.py`."""

from __future__ import annotations

import html
import json
from typing import Any

import gradio as gr
from gradio.components import Component

from gptj_demo.control import Control, ControlGroup
from gptj_demo.control_values import write_value
from gptj_demo.sampling import CONTROL_ORDER, CONTROLS, PRESETS, control_named
from gptj_demo.texts import say

OPEN_GROUPS: tuple[ControlGroup, ...] = ("length", "randomness")
DEFAULT_PRESET = "Balanced"
SHAPING = tuple(PRESETS[DEFAULT_PRESET])
"""The controls that a preset sets."""


def build_controls() -> dict[str, Component]:
    """Lay out preset, controls and reset in the present Blocks; the components by control name."""
    gr.Button(say("panel.done"), size="sm", elem_id="close-controls")  # shown on narrow screens
    preset = gr.Radio(
        [(say(f"preset.{name.lower()}"), name) for name in PRESETS],
        value=DEFAULT_PRESET,
        label=say("panel.preset"),
        elem_id="preset",
        interactive=True,
    )
    gr.HTML("<div class='own-presets'></div>", apply_default_css=False, elem_id="own-presets")
    gr.HTML(
        "<button type='button' class='link' aria-pressed='false'>"
        f"{html.escape(say('panel.definitions'))}</button>",
        apply_default_css=False,
        elem_id="show-definitions",
    )
    components: dict[str, Component] = {}
    accordions: list[gr.Accordion] = []
    groups = dict.fromkeys(control.group for control in CONTROLS)
    for group in groups:
        members = [control for control in CONTROLS if control.group == group]
        if group in OPEN_GROUPS:
            components.update((control.name, _build(control)) for control in members)
            if group == "length":
                _build_ending()
        else:
            holds = [f"holds-{control.name}" for control in members]
            with gr.Accordion(
                say(f"group.{group}"),
                open=False,
                elem_id=_group_id(group),
                elem_classes=["control-group", *holds],
            ) as accordion:
                accordions.append(accordion)
                components.update((control.name, _build(control)) for control in members)
    order = ", ".join(control_named(name).label for name in CONTROL_ORDER)
    gr.HTML(
        f"<p data-order='{' '.join(CONTROL_ORDER)}'>"
        f"{html.escape(say('panel.order', controls=order))}</p>",
        apply_default_css=False,
        elem_id="filter-order",
    )
    reset = gr.Button(say("panel.reset"), size="sm", elem_id="reset-controls")
    _connect(preset, reset, components, accordions)
    return components


def _build(control: Control) -> Component:
    shared: dict[str, Any] = {
        "label": control.label,
        "info": control.help,
        "elem_id": f"control-{control.name}",
        "elem_classes": "control",
        "interactive": True,
    }
    component: Component
    if control.kind in ("integer", "number"):
        assert control.minimum is not None
        assert control.maximum is not None
        component = gr.Slider(
            control.minimum,
            control.maximum,
            value=control.default,
            step=control.step,
            buttons=["reset"],
            **shared,
        )
    elif control.kind == "optional_integer":
        # not gr.Number, which shows an empty value as 0
        component = gr.Textbox("", max_lines=1, **shared)
    elif control.kind == "flag":
        component = gr.Checkbox(control.default, **shared)
    elif control.kind == "choice":
        choices = [(say(f"choice.{choice}"), choice) for choice in control.choices]
        component = gr.Radio(choices, value=control.default, **shared)
    elif control.kind == "text":
        component = gr.Textbox(control.default, lines=3, max_lines=16, **shared)
    else:
        written = write_value(control, control.default)
        lines = max(8, len(control.choices))
        component = gr.Textbox(written, lines=2, max_lines=lines, **shared)
    return component


def _build_ending() -> None:
    """The choice of where a text that reaches the length limit ends, kept in the browser."""
    options = "".join(
        f"<option value='{value}'>{html.escape(say(f'panel.ending_{name}'))}</option>"
        for value, name in (("", "length"), ("within", "within"), ("beyond", "beyond"))
    )
    gr.HTML(
        f"<label class='fields'><span>{html.escape(say('panel.ending'))}</span> "
        f"<select>{options}</select></label>",
        apply_default_css=False,
        elem_id="ending",
    )


def _group_id(group: ControlGroup) -> str:
    return "group-" + group.replace("_", "-")


def _connect(
    preset: gr.Radio,
    reset: gr.Button,
    components: dict[str, Component],
    accordions: list[gr.Accordion],
) -> None:
    """Connect presets, reset, and the marks of controls that are off or changed, in the browser."""
    everything = list(components.values())
    shaping = [components[name] for name in SHAPING]
    presets = {name: [values[control] for control in SHAPING] for name, values in PRESETS.items()}
    preset.input(
        None, preset, shaping, js=f"(name) => ({json.dumps(presets)})[name]", show_progress="hidden"
    )
    named = (
        f"(...values) => {{ const presets = {json.dumps(presets)}; const shown = "
        "JSON.stringify(values.map(Number)); return Object.keys(presets).find((name) => "
        "JSON.stringify(presets[name]) === shown) ?? null; }"
    )
    for component in shaping:
        component.change(None, shaping, preset, js=named, show_progress="hidden")  # type: ignore[attr-defined]
    defaults = [component.value for component in everything]
    reset.click(
        None,
        None,
        [preset, *everything],
        js=f"() => {json.dumps([DEFAULT_PRESET, *defaults])}",
        show_progress="hidden",
    )
    table = [
        {
            "name": c.name,
            "group": _group_id(c.group),
            "kind": c.kind,
            "off": c.off,
            "part_of": c.part_of,
            "minimum": c.minimum,
            "maximum": c.maximum,
            "initial": components[c.name].value,
        }
        for c in CONTROLS
    ]
    mark = f"async (...values) => (await gptj.controls).showControls({json.dumps(table)}, values)"
    gr.on(
        [component.change for component in everything]  # type: ignore[attr-defined]
        + [accordion.expand for accordion in accordions],  # closed accordions are not in the DOM
        None,
        everything,
        None,
        js=mark,
        show_progress="hidden",
    )
    blocks = gr.context.Context.root_block
    assert blocks is not None
    blocks.load(None, everything, None, js=mark, show_progress="hidden")
