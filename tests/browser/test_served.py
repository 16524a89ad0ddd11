"""The page of a model on another server: controls that the server lacks are switched off."""

from __future__ import annotations

import json

from playwright.sync_api import Browser, Route, expect

from .conftest import Site, Visitor

SERVED = {"server": "gpu.example:8000", "lacks": ["top_k", "logprobs", "echo"]}


def as_served(route: Route) -> None:
    """Change what the server says of its model."""
    answer = route.fetch()
    said = answer.json()
    if isinstance(said, dict) and said.get("model"):
        said["model"] |= {"is_sample": False, "device": SERVED["server"], "served": SERVED}
    route.fulfill(response=answer, body=json.dumps(said))


def test_controls_and_views_that_the_server_lacks_are_disabled_with_the_reason(
    chromium: Browser, site: Site
) -> None:
    context = chromium.new_context()
    context.route("**/component_server/", as_served)
    try:
        check_lacking(Visitor(context, site.url), site.url)
    finally:
        context.unroute_all(behavior="ignoreErrors")  # the page may ask for its status at any time
        context.close()


def check_lacking(visitor: Visitor, url: str) -> None:
    page = visitor.page
    expect(page.locator(".model-line")).to_contain_text(" · reduced mode · gpu.example:8000")
    lacking = page.locator("#control-top_k")
    expect(lacking).to_have_attribute("inert", "")
    said = lacking.evaluate("(one) => getComputedStyle(one, '::after').content")
    assert "does not have this control" in said
    expect(page.locator("#control-top_p")).not_to_have_attribute("data-lacking", "")
    tokens = page.locator("[data-action='tokens']")
    expect(tokens).to_have_attribute("aria-disabled", "true")
    tokens.click(force=True)
    expect(tokens).to_have_attribute("aria-pressed", "false")
    for view, reason in (("likely", "what can follow"), ("why", "gives no probabilities")):
        page.goto(f"{url}/#{view}")
        expect(page.locator(f"#view-{view} .lacking-why")).to_contain_text(reason)
