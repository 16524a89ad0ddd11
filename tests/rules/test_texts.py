"""The catalogue of texts is complete in every language, and no sentence stands beside it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from gptj_demo.sampling import CONTROLS, MAX_SEED, MAX_STRING_CHARACTERS, MAX_STRINGS, PRESETS
from gptj_demo.texts import PLACEHOLDER, Text, catalogue, languages
from tests.node import node
from tests.processes import ROOT

ENGLISH = catalogue("en")
OTHERS = [language for language in languages() if language != "en"]
KEY = re.compile(r"[a-z]+\.\w+")
QUOTED_KEY = re.compile(r"""["'`]([a-z]+\.[a-z]\w*)["'`]""")
IN_MARKUP = re.compile(r'data-(?:text(?:-[a-z-]+)?|html)="([^"]+)"')
AREAS = {key.split(".")[0] for key in ENGLISH}

# keys that are put together from a name: every control, group, view, ...
MADE = re.compile(r"(control|group|preset|choice|view|example|scaffold|wrong|why|panel)\..+")
NAMES_OF_FILES = re.compile(r"\.(js|json|css|html|png|csv|md|txt|py)$")


def forms(text: Text) -> dict[str, str]:
    return {"": text} if isinstance(text, str) else text


def placeholders(text: Text) -> set[str]:
    found = (PLACEHOLDER.findall(form) for form in forms(text).values())
    return {name for names in found for name in names if name}


def sources(suffix: str) -> Iterator[tuple[str, str]]:
    """Path and contents of the files of ours that may name keys."""
    for folder in ("gptj_demo", "assets"):
        for path in sorted((ROOT / folder).rglob(f"*.{suffix}")):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def used_keys() -> dict[str, str]:
    """Keys that are written out in the sources, with a file that does."""
    found = {}
    for suffix in ("py", "js"):
        for name, source in sources(suffix):
            for key in QUOTED_KEY.findall(source):
                if key.split(".")[0] in AREAS and not NAMES_OF_FILES.search(key):
                    found[key] = name
    for name, source in sources("html"):
        found |= dict.fromkeys(IN_MARKUP.findall(source), name)
    return found


# ---- keys


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_is_translated(language: str) -> None:
    assert catalogue(language).keys() == ENGLISH.keys()


def test_every_key_in_the_sources_has_a_text() -> None:
    unknown = {key: name for key, name in used_keys().items() if key not in ENGLISH}
    assert not unknown


def test_every_text_is_used() -> None:
    unused = ENGLISH.keys() - used_keys().keys()
    assert not {key for key in unused if not MADE.fullmatch(key)}


def test_keys_that_are_made_from_names_exist() -> None:
    wanted = {
        f"control.{c.name}.{part}" for c in CONTROLS for part in ("label", "help", "definition")
    }
    wanted |= {f"group.{control.group}" for control in CONTROLS}
    wanted |= {f"preset.{name.lower()}" for name in PRESETS}
    wanted |= {
        f"choice.{choice}"
        for control in CONTROLS
        if control.kind == "choice"
        for choice in control.choices
    }
    assert wanted <= ENGLISH.keys()
    made = {key for key in ENGLISH if key.startswith(("control.", "group.", "preset.", "choice."))}
    assert made - {"control.called"} == wanted


# ---- texts


@pytest.mark.parametrize("language", OTHERS)
def test_placeholders_are_the_same_in_every_language(language: str) -> None:
    texts = catalogue(language)
    different = {
        key: (placeholders(text), placeholders(texts[key]))
        for key, text in ENGLISH.items()
        if key in texts and placeholders(text) != placeholders(texts[key])
    }
    assert not different


@pytest.mark.parametrize("language", OTHERS)
def test_a_text_has_plural_forms_in_all_languages_or_in_no_language(language: str) -> None:
    texts = catalogue(language)
    assert {k for k, text in texts.items() if isinstance(text, dict)} == {
        k for k, text in ENGLISH.items() if isinstance(text, dict)
    }


@pytest.mark.parametrize("language", languages())
def test_plural_forms_are_those_of_the_language(language: str) -> None:
    script = f"new Intl.PluralRules('{language}').resolvedOptions().pluralCategories.join()"
    wanted = set(node("-p", script).stdout.strip().split(","))
    assert wanted >= {"one", "other"}
    for key, text in catalogue(language).items():
        if isinstance(text, dict):
            assert set(text) == wanted, key


@pytest.mark.parametrize("language", languages())
def test_markup_is_only_where_it_is_read_as_markup(language: str) -> None:
    as_markup = {
        key for _, source in sources("html") for key in re.findall(r'data-html="([^"]+)"', source)
    }
    for key, text in catalogue(language).items():
        tags = [re.findall(r"</?([a-z]+)[ >]", form) for form in forms(text).values()]
        assert key in as_markup or not any(tags), key
        english = re.findall(r"</?[a-z]+[^>]*>", str(ENGLISH[key]))
        if key in as_markup:
            assert re.findall(r"</?[a-z]+[^>]*>", str(text)) == english, key


@pytest.mark.parametrize("language", languages())
def test_limits_that_a_definition_names_are_those_of_the_table(language: str) -> None:
    texts = catalogue(language)
    assert str(MAX_SEED) in str(texts["control.seed.definition"])
    for limit in (MAX_STRINGS["stop"], MAX_STRING_CHARACTERS):
        assert re.search(rf"\b{limit}\b", str(texts["control.stop.definition"]))


# a right-to-left text would mirror or reorder these
CODE = re.compile(r"\{\{|\}\}|\\n|=>|(?:Ctrl|Alt)\+")
ISOLATED = re.compile("\u2066[^\u2069]*\u2069")


@pytest.mark.parametrize("language", OTHERS)
def test_code_in_a_right_to_left_text_keeps_its_own_direction(language: str) -> None:
    texts = catalogue(language)
    if texts["language.direction"] == "rtl":
        bare = {
            key: form
            for key, text in texts.items()
            for form in forms(text).values()
            if CODE.search(ISOLATED.sub("", form))
        }
        assert not bare


# ---- sentences beside the catalogue

SENTENCE = re.compile(r"[A-Z][a-z']+ [a-z']+( [a-z']+|[.:…])|^[a-z']+ [a-z']+ [a-z']+ ")
PYTHON_FOR_THE_PAGE = ("gptj_demo/ui/", "gptj_demo/engine/engine.py", "gptj_demo/client/")
# documentation of functions that programs call, code for programs, errors of ours, and logs
FOR_PROGRAMS = (
    "gptj_demo/ui/gradio_api.py",
    "gptj_demo/ui/snippets.py",
    "gptj_demo/client/backends/callers.py",
    "gptj_demo/client/backends/host.py",
)
NOT_FOR_VISITORS = re.compile(r"logger\.|Error$|InvalidSettings$|assert_|exception$")
JS_STRING = re.compile(r'"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`')
JS_CODE = re.compile(
    r"console\.|throw new (?:Error|TypeError)\(|querySelector|placeholder = \"Once"
)


def is_sentence(text: str) -> bool:
    return bool(SENTENCE.search(text)) and " => " not in text


@pytest.mark.parametrize("name", [name for name, _ in sources("js")])
def test_no_sentence_stands_in_a_module_of_the_page(name: str) -> None:
    source = (ROOT / name).read_text(encoding="utf-8")
    code = re.sub(
        r"/\*.*?\*/|^\s*//.*$|(?<=[\s;,{(])//.*$", "", source, flags=re.DOTALL | re.MULTILINE
    )
    lines = [line for line in code.splitlines() if not JS_CODE.search(line)]
    found = [one or other for line in lines for one, other in JS_STRING.findall(line)]
    assert not [text for text in found if is_sentence(re.sub(r"\$\{[^}]*\}", "", text))]


@pytest.mark.parametrize("name", [name for name, _ in sources("js")])
def test_no_quotation_mark_or_unit_stands_in_a_module_of_the_page(name: str) -> None:
    source = (ROOT / name).read_text(encoding="utf-8")
    assert not re.findall(r"[“«]\$\{.*|\} [KMGT]B\b.*", source)


@pytest.mark.parametrize("name", [name for name, _ in sources("html")])
def test_no_text_stands_in_the_markup(name: str) -> None:
    source = (ROOT / name).read_text(encoding="utf-8")
    bare = re.sub(r"<!--.*?-->|<(pre|kbd|svg)\b.*?</\1>|<[^>]*>", "", source, flags=re.DOTALL)
    words = set(re.findall(r"[A-Za-z]{2,}", bare))
    assert words <= {"JSON", "CSV", "Markdown", "GPT"}
    assert not re.search(r'\s(title|aria-label|placeholder)="[A-Za-z]', source)


@pytest.mark.parametrize(
    "name",
    [n for n, _ in sources("py") if n.startswith(PYTHON_FOR_THE_PAGE) and n not in FOR_PROGRAMS],
)
def test_no_sentence_stands_in_a_module_that_serves_the_page(name: str) -> None:
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    found = []
    for scope in ast.walk(tree):
        for child in ast.iter_child_nodes(scope):
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                child.value.value = ""  # a docstring
            calls = isinstance(child, ast.Call) and ast.unparse(child.func)
            if calls and re.search(
                r"logger\.|Error$|InvalidSettings$|assert_|exception$", str(calls)
            ):
                child.args = []  # for the log, for deployers, or for us
    for part in ast.walk(tree):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            found += [part.value] if is_sentence(part.value) else []
    assert not found
