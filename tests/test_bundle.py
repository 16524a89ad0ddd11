"""The file that holds all modules of the page: it behaves as the separate modules do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gptj_demo.ui.assets import read_modules
from gptj_demo.ui.bundle import bundle
from tests.node import ROOT, node

EXPORTS = """
const { load } = await import(process.argv[1]);
const described = (exports) => Object.fromEntries(
  Object.entries(exports).map(([name, value]) => [name, typeof value]).sort());
const results = {};
for (const [path, address] of Object.entries(JSON.parse(process.argv[2])))
  results[path] = [described(await load(path)), described(await import(address))];
process.stdout.write(JSON.stringify(results));
"""


def run(tmp_path: Path, modules: dict[str, str], code: str) -> Any:
    """The value of the expression `code`, in which `load` is the bundle's."""
    file = tmp_path / "modules.mjs"
    file.write_text(bundle(modules), encoding="utf-8")
    script = (
        "const { load } = await import(process.argv[1]);"
        f"process.stdout.write(JSON.stringify(await ({code})));"
    )
    ended = node("--input-type=module", "-e", script, file.as_uri())
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_each_bundled_module_has_the_exports_of_the_single_module(tmp_path: Path) -> None:
    # core/i18n.js reads the texts from this folder
    texts = tmp_path / "texts"
    texts.symlink_to(ROOT / "assets/texts")
    file = tmp_path / "modules.mjs"
    file.write_text(bundle(read_modules()), encoding="utf-8")
    # the others need a document when they are loaded
    core = {
        path: (ROOT / "assets" / path).as_uri()
        for path in read_modules()
        if path.startswith("core/") and path not in ("core/recorder.js",)
    }
    ended = node("--input-type=module", "-e", EXPORTS, file.as_uri(), json.dumps(core))
    assert ended.returncode == 0, ended.stderr
    results = json.loads(ended.stdout)
    assert len(results) > 20
    for path, (bundled, alone) in results.items():
        assert bundled == alone, path


def test_all_used_forms_of_import_and_export_are_bundled(tmp_path: Path) -> None:
    modules = {
        "core/a.js": (
            "export const one = 1;\n"
            "export function two() {\n  return one + 1;\n}\n"
            "export async function three() {\n  return 3;\n}\n"
            "export class Four {}\n"
            "const hidden = 5;\n"
        ),
        "core/b.js": (
            'import { one, two as second } from "./a.js";\n'
            'import {\n  three,\n  Four,\n} from "./a.js";\n'
            'import * as all from "../core/a.js";\n'
            'import "./effect.js";\n'
            "const names = Object.keys(all);\n"
            "export const result ="
            " [one, second(), await three(), Four.name, names, globalThis.ran];"
        ),
        "core/effect.js": "globalThis.ran = (globalThis.ran ?? 0) + 1;\n",
    }
    expected = [1, 2, 3, "Four", ["one", "two", "three", "Four"], 1]
    assert run(tmp_path, modules, '(await load("core/b.js")).result') == expected


def test_a_module_runs_once_and_only_when_it_is_needed(tmp_path: Path) -> None:
    count = "globalThis.{0} = (globalThis.{0} ?? 0) + 1;\n"
    modules = {
        "core/shared.js": count.format("shared"),
        "views/a.js": 'import "../core/shared.js";\n',
        "views/b.js": 'import "../core/shared.js";\n',
        "views/c.js": count.format("unused"),
    }
    code = (
        'Promise.all(["views/a.js", "views/b.js", "views/a.js"].map(load))'
        ".then(() => [globalThis.shared, globalThis.unused ?? 0])"
    )
    assert run(tmp_path, modules, code) == [1, 0]


def test_addresses_are_relative_to_the_module(tmp_path: Path) -> None:
    source = 'export const address = new URL("../texts/en.json", import.meta.url).href;\n'
    address = run(tmp_path, {"core/a.js": source}, '(await load("core/a.js")).address')
    assert address == (tmp_path / "texts/en.json").as_uri()


@pytest.mark.parametrize(
    "source",
    [
        "export default 1;",
        "export let grows = 1;",
        "export const [a, b] = [1, 2];",
        "export { a };",
        'export * from "./a.js";',
        'import a from "./a.js";',
        'import a, { b } from "./a.js";',
    ],
)
def test_other_forms_are_refused_with_the_line(source: str) -> None:
    with pytest.raises(ValueError, match="not read: ") as refused:
        bundle({"core/a.js": "export const c = 1;\n", "core/b.js": f"// a comment\n{source}\n"})
    assert source in str(refused.value)
    assert "core/b.js" in str(refused.value)


def test_an_import_of_a_missing_module_is_refused() -> None:
    with pytest.raises(ValueError, match=r"core/b\.js imports \./none\.js"):
        bundle({"core/b.js": 'import { a } from "./none.js";\n'})
