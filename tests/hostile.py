"""500 texts that a careless page would run, load or show as something else.

If one of them becomes markup, at least one of these can be seen: an element with the attribute
`data-hostile`, a call of `window.executed`, a dialog, a request to `CANARY`, or a report of the
content security policy.
"""

from __future__ import annotations

CANARY = "canary.invalid"
"""A host that does not exist; a request to it is seen by the browser of the test."""

_ELEMENTS = [
    "<img {mark} src=x onerror={run}>",
    "<img {mark} src=//{host}/{n}>",
    "<svg {mark} onload={run}>",
    "<svg {mark}><script>{run}</script></svg>",
    "<svg {mark}><animate onbegin={run} attributeName=x dur=1s>",
    "<script {mark}>{run}</script>",
    "<script {mark} src=//{host}/{n}.js></script>",
    "<iframe {mark} src=javascript:{run}></iframe>",
    "<iframe {mark} srcdoc='<script>parent.{run}</script>'></iframe>",
    "<object {mark} data=javascript:{run}></object>",
    "<embed {mark} src=javascript:{run}>",
    "<video {mark} src=//{host}/{n} onerror={run}></video>",
    "<audio {mark} src=x onerror={run}></audio>",
    "<details {mark} open ontoggle={run}>x</details>",
    "<body {mark} onload={run}>",
    "<input {mark} autofocus onfocus={run}>",
    "<a {mark} href=javascript:{run}>x</a>",
    "<form {mark} action=javascript:{run}><button>x</button></form>",
    "<base {mark} href=//{host}/{n}/>",
    "<link {mark} rel=stylesheet href=//{host}/{n}.css>",
    "<style {mark}>@import '//{host}/{n}.css';</style>",
    "<meta {mark} http-equiv=refresh content='0;url=javascript:{run}'>",
    "<math {mark}><mtext></mtext><img src=x onerror={run}></math>",
    "<template {mark}><img src=x onerror={run}></template>",
    "<marquee {mark} onstart={run}>x</marquee>",
    "<div {mark} style='background:url(//{host}/{n})'>x</div>",
    "<p {mark} onpointerenter={run}>x</p>",
    "<gradio-app {mark} src=//{host}/{n}></gradio-app>",
]
_BREAKERS = [
    "",
    '"',
    "'",
    "`",
    '">',
    "'>",
    "-->",
    "</textarea>",
    "</title>",
    "</style>",
    "</script>",
    "]]>",
    "&quot;>",
    "\u0000",
    "</option></select>",
]
_TEMPLATES = [
    "${{{run}}}",
    "{{{{{run}}}}}",
    "{{{{{{{run}}}}}}}",
    "<%= {run} %>",
    "#{{{run}}}",
    "{{@html {run}}}",
    "{{{{constructor.constructor('{run}')()}}}}",
    "`+{run}+`",
    "'+{run}+'",
    '"+{run}+"',
    "\\u0060${{{run}}}",
    "[[{run}]]",
    "{{%raw%}}{run}",
]
_ADDRESSES = [
    "javascript:{run}",
    "JaVaScRiPt:{run}",
    "java\tscript:{run}",
    "\x01javascript:{run}",
    "data:text/html,<script {mark}>{run}</script>",
    "vbscript:{run}",
    "//{host}/{n}",
    "https://{host}/{n}",
    "file:///etc/passwd?{n}",
    "blob:{host}/{n}",
]
_MARKDOWN = [
    "[x](javascript:{run})",
    "![x](//{host}/{n})",
    "[x]: javascript:{run}",
    "<javascript:{run}>",
    '![x](x"onerror={run})',
    "$\\href{{javascript:{run}}}{{x}}$",
    "$$\\includegraphics{{//{host}/{n}}}$$",
    "\\(\\htmlData{{hostile={n}}}{{x}}\\)",
    "```html\n<img {mark} src=x onerror={run}>\n```",
    "| a |\n|---|\n| <b {mark}>x</b> |",
    "> <img {mark} src=x onerror={run}>",
    "- [ ] <img {mark} src=x onerror={run}>",
]
_NAMES = [
    "__proto__",
    "constructor",
    "prototype",
    "toString",
    "hasOwnProperty",
    "valueOf",
    "__defineGetter__",
    "constructor.prototype",
    "__proto__.polluted",
]
_CHARACTERS = [
    "\u202e{run}\u202c",
    "\u2066{run}",
    "\u2067{run}\u2069",
    "\u200f{run}\u200e",
    "\u061c{run}",
    "\ufeff{run}",
    "\u0000{run}",
    "\u0085{run}\u2028{run}\u2029",
    "\r{run}\r\n",
    "\x1b[31m{run}\x1b[0m",
    "\x08\x7f{run}",
    "e\u0301" * 40 + "{run}",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467{run}",
    "\U000e0041{run}",
    "\ufffe\uffff{run}",
    "\ud83d{run}",
    "{run}\udc00",
    "\udc00\ud83d{run}",
    "{run}" + "\u0301" * 200,
    "\u0e49" * 80 + "{run}",
]
_ENTITIES = [
    "&lt;img {mark} src=x onerror={run}&gt;",
    "&#60;img {mark} src=x onerror={run}&#62;",
    "&#x3c;script {mark}&#x3e;{run}",
    "\\x3cimg {mark} src=x onerror={run}\\x3e",
    "\\u003cimg {mark} src=x onerror={run}\\u003e",
    "%3Cimg%20{mark}%20onerror={run}%3E",
    "+ADw-script {mark}+AD4-{run}",
    "\uff1cimg {mark} src=x onerror={run}\uff1e",
    "<<img {mark} src=x onerror={run}>>",
    "<img\n{mark}\nsrc=x\nonerror={run}\n>",
    "<IMG/{mark}/SRC=x/ONERROR={run}>",
    "<img {mark} src=x onerror\n=\n{run}",
]


def _forms() -> list[str]:
    """Every form, those of elements behind every breaker of attributes and elements."""
    broken = [breaker + element for breaker in _BREAKERS for element in _ELEMENTS]
    attributes = [
        f"{quote} {{mark}} {event}={{run}} {quote}"
        for quote in "\"'`"
        for event in ("onfocus", "onmouseover", "onanimationstart", "style")
    ]
    long = [
        "<b {mark}>" * 50 + "{run}",
        "a" * 5000 + "<img {mark} src=x onerror={run}>",
        "(" * 2000 + "{run}" + ")" * 2000,
        "\n" * 300 + "{run}",
        " " * 3000 + "{run}",
    ]
    return [
        *_TEMPLATES,
        *_ADDRESSES,
        *_MARKDOWN,
        *_NAMES,
        *_CHARACTERS,
        *_ENTITIES,
        *attributes,
        *long,
        *broken,
    ]


def _written(form: str, number: int) -> str:
    run = f"executed({number})"
    mark = f"data-hostile={number}"
    for name, value in (("run", run), ("mark", mark), ("host", CANARY), ("n", str(number))):
        form = form.replace(f"{{{name}}}", value)
    return form.replace("{{", "{").replace("}}", "}")


TEXTS = [_written(form, number) for number, form in enumerate(_forms())]
"""The texts. None is in the corpus twice; some hold half a surrogate pair, which UTF-8 lacks."""

SOUND = [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in TEXTS]
"""The same without half surrogates."""
