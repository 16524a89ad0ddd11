"""The API's description as a page: plain HTML that loads nothing from other hosts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 Georgia, serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fdfcf9; }
h1, h2, h3 { font-weight: normal; line-height: 1.2; }
h2 { margin-top: 2.5rem; border-top: 1px solid #ccc; padding-top: 1rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
th, td { text-align: left; vertical-align: top; padding: 0.35rem 0.7rem 0.35rem 0;
  border-bottom: 1px solid #ddd; }
code { font: 0.85em ui-monospace, monospace; }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #1b1b1d; } }
"""


def page(openapi: dict[str, Any]) -> str:
    """The whole page, of an OpenAPI description."""
    title = escape(openapi["info"]["title"])
    said = "".join(f"<p>{escape(part)}</p>" for part in openapi["info"]["description"].split("\n"))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>{said}"
        '<p>The same for programs: <a href="openapi.json"><code>openapi.json</code></a></p>'
        f"{''.join(_routes(openapi))}</body></html>"
    )


def _routes(openapi: dict[str, Any]) -> Iterator[str]:
    for path, methods in openapi["paths"].items():
        for method, route in methods.items():
            yield f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
            yield f"<p>{escape(route.get('description') or route.get('summary', ''))}</p>"
            body = route.get("requestBody", {}).get("content", {}).get("application/json")
            if body is not None:
                yield _fields("Parameters", openapi, body["schema"])
            answer = route["responses"].get("200", {}).get("content", {}).get("application/json")
            if answer is not None and answer.get("schema"):
                yield _fields("Answer", openapi, answer["schema"])


def _fields(title: str, openapi: dict[str, Any], schema: dict[str, Any]) -> str:
    schema = _resolve(openapi, schema)
    required = schema.get("required", ())
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_type(openapi, field))}</td>"
        f"<td>{_default(field, name in required)}</td>"
        f"<td>{escape(field.get('description', ''))}</td></tr>"
        for name, field in schema.get("properties", {}).items()
    )
    head = "<tr><th>name</th><th>type</th><th>default</th><th></th></tr>"
    return f"<h3>{title}</h3><table>{head}{rows}</table>"


def _resolve(openapi: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        found: dict[str, Any] = openapi["components"]["schemas"][schema["$ref"].split("/")[-1]]
        return found
    return schema


def _default(field: dict[str, Any], is_required: bool) -> str:
    if is_required:
        return "required"
    default = field.get("default")
    return "" if default is None else f"<code>{escape(json.dumps(default))}</code>"


def _type(openapi: dict[str, Any], field: dict[str, Any]) -> str:
    kinds = field.get("anyOf") or field.get("oneOf")
    if kinds:
        return " or ".join(dict.fromkeys(_type(openapi, one) for one in kinds))
    if "$ref" in field:
        return str(field["$ref"].split("/")[-1])
    if "enum" in field or "const" in field:
        return " or ".join(map(json.dumps, field.get("enum", [field.get("const")])))
    kind = str(field.get("type", "any"))
    if kind == "array":
        return f"list of {_type(openapi, field.get('items', {}))}"
    low, high = field.get("minimum"), field.get("maximum")
    return kind if low is None or high is None else f"{kind}, {low:g} to {high:.10g}"
