"""Trees of branches: made, imported, walked and read in the browser."""

from __future__ import annotations

import json
import random
from typing import Any

from playwright.sync_api import Locator, Page, expect

from .conftest import Script, Visitor

Node = dict[str, Any]
HOSTILE = "<img src=x onerror=alert(1)>${alert(1)}{{value}}</script>\u202e"
SETTINGS = {"temperature": 1.1, "top_k": 40}


def node(name: str, parent: str, at: int, text: str, /, **more: Any) -> Node:
    """A node as it is exported."""
    return {
        "id": name, "parent": parent, "at": at, "pieces": [[text, 0]], "kind": "write",
        "name": "", "starred": False, "time": 1_700_000_000_000, "run": None, **more,
    }  # fmt: skip


def written_by_model(name: str, parent: str, at: int, text: str, /, **more: Any) -> Node:
    run = {
        "prompt_length": at, "controls": SETTINGS, "seed": 7, "model": "GPT-J", "revision": "main",
        "precision": "int8", "reason": "length", "message": "Wrote all.", "tokens": 3,
        "mean_logprob": -1.5,
    }  # fmt: skip
    return node(
        name, parent, at, text, **{"pieces": [[text, 1]], "kind": "generate", "run": run, **more}
    )


def session(nodes: list[Node], /, **more: Any) -> dict[str, Any]:
    """A session as it is exported."""
    current = nodes[-1]["id"] if nodes else "root"
    return {
        "format": "gptj-playground/session", "version": 2, "name": "Brought", "time": 1,
        "current": current, "nodes": nodes, **more,
    }  # fmt: skip


SMALL = session(
    [
        node("w", "root", 0, "Once upon"),
        written_by_model("a", "w", 9, " a time"),
        written_by_model("b", "w", 9, " a hill", starred=True, name="The hill"),
        written_by_model("c", "b", 11, " mountain", kind="alternative"),
    ],
    current="b",
)


def large(count: int) -> dict[str, Any]:
    """A tree as people make them: runs, and several continuations of many nodes."""
    chance = random.Random(5)
    nodes = [node("n0", "root", 0, "Once upon a time")]
    lengths = {"n0": 16}
    while len(nodes) < count:
        parent = chance.choice(nodes[-8:])["id"]
        for _ in range(min(chance.choice([1, 1, 2, 4]), count - len(nodes))):
            name, at = f"n{len(nodes)}", lengths[parent]
            text = f" and so it went on, for the {len(nodes)}th time"
            nodes.append(written_by_model(name, parent, at, text))
            lengths[name] = at + len(text)
    return session(nodes)


def generate(person: Visitor, script: Script, *texts: str) -> None:
    script.say(*texts)
    person.generate()


def texts(page: Page) -> dict[str, Any]:
    """The tree as nested dictionaries: {full text of a node: its children}."""
    return dict(
        page.evaluate(
            """() => {
              const { tree } = gptj.sessions.current;
              const below = (id) => Object.fromEntries(
                tree.childrenOf(id).map((child) => [tree.textOf(child), below(child)]));
              return below("root");
            }"""
        )
    )


def current(page: Page) -> str:
    return str(
        page.evaluate("gptj.sessions.current.tree.textOf(gptj.sessions.current.tree.current)")
    )


def exported(page: Page) -> dict[str, Any]:
    """An export without the time when it was saved."""
    whole = dict(json.loads(page.evaluate("gptj.sessions.export('json').content")))
    assert whole.pop("time") > 0
    return whole


def bring(person: Visitor, given: Any) -> None:
    """Import a file: `given` as JSON, or unchanged if it is bytes."""
    content = given if isinstance(given, bytes) else json.dumps(given).encode()
    file = {"name": "session.json", "mimeType": "application/json", "buffer": content}
    person.page.locator(".import-file").set_input_files(file)


def branches(person: Visitor) -> Locator:
    """Go to the view; the outline."""
    person.page.evaluate("gptj.show('branches')")
    return person.page.get_by_role("tree", name="Branches")


def row(person: Visitor, text: str) -> Locator:
    return person.page.get_by_role("treeitem").filter(has_text=text)


def chosen(person: Visitor) -> Locator:
    return person.page.locator('.tree-row[aria-selected="true"] .words')


def notice(person: Visitor) -> Locator:
    return person.page.locator(".branches-notice p")


def imported(person: Visitor, given: dict[str, Any]) -> Locator:
    outline = branches(person)
    bring(person, given)
    expect(notice(person)).to_have_text("Imported session.json as a session of its own.")
    person.page.evaluate("() => new Promise(requestAnimationFrame)")  # the view is drawn in a frame
    return outline
