"""Joins the page's ES modules into one file, because a browser takes long to ask for a hundred.

Each module becomes an asynchronous function that imports what it needs and returns what it exports;
it runs when it is first needed, as a module does. Only the forms of import and export that the
page's modules use are understood, and `bundle` refuses others.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

_IMPORT = re.compile(r'^import (?:(\{[^{}]*\}|\* as \w+) from )?"([^"]+)";$', re.MULTILINE)
_EXPORT = re.compile(
    r"^export (?=(?:async function|function|class|const) ([A-Za-z_$][\w$]*)\b)", re.MULTILINE
)
_OTHER = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)

_BEGIN = """\
const once = (run) => {
  let result;
  return () => (result ??= run());
};
const modules = {};
"""
_END = """\
/** The exports of a module, by its path. */
export const load = (path) => modules[path]();
"""


def bundle(modules: Mapping[str, str]) -> str:
    """One ES module with all of `modules`, sources by path, and a function `load(path)`.

    Raises `ValueError` for a module with other forms of import or export than those that are
    replaced, and for an import of what is not there.
    """
    joined = (_wrap(path, source, modules) for path, source in sorted(modules.items()))
    return "".join((_BEGIN, *joined, _END))


def _wrap(path: str, source: str, modules: Mapping[str, str]) -> str:
    def imported(found: re.Match[str]) -> str:
        names, address = found.groups()
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), address))
        if target not in modules:
            raise ValueError(f"{path} imports {address}, which is no module of the page")
        running = f'await modules["{target}"]()'
        if names is None:
            return f"{running};"
        names = re.sub(r"\bas\b", ":", names) if names.startswith("{") else names.split()[-1]
        return f"const {names} = {running};"

    exported = [found[1] for found in _EXPORT.finditer(source)]
    body = _EXPORT.sub("", _IMPORT.sub(imported, source))
    if other := _OTHER.search(body):
        raise ValueError(f"{path} has a form of import or export that is not read: {other[0]}")
    # relative addresses of a module are those of its own path
    body = body.replace("import.meta.url", f'new URL("{path}", import.meta.url).href')
    names = ", ".join(exported)
    return f'modules["{path}"] = once(async () => {{\n{body}\nreturn {{ {names} }};\n}});\n'
