"""Joins the page's ES modules into one file, so that a browser requests one file and not a hundred.

Each module becomes an asynchronous function that returns the module's exports. The function runs
when the module is first imported. `bundle` reads the forms of import and export that the page's
modules use, and refuses others.
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
    """One ES module that contains all of `modules` and exports `load(path)`.

    `modules` has the sources by path. Raises `ValueError` for a form of import or export that is
    not read, and for an import of a module that is missing.
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
    # relative addresses start at the module's own path, not at the bundle's
    body = body.replace("import.meta.url", f'new URL("{path}", import.meta.url).href')
    names = ", ".join(exported)
    return f'modules["{path}"] = once(async () => {{\n{body}\nreturn {{ {names} }};\n}});\n'
