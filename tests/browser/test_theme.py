"""The choice between light, dark, and what the system has."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import expect

from .conftest import Site, Visitor

DARK = re.compile(r"\bdark\b")


def test_a_chosen_theme_is_kept_and_system_follows_the_system(
    site: Site, visit: Callable[..., Visitor]
) -> None:
    page = visit(site.url, color_scheme="light").page
    body, themes = page.locator("body"), page.get_by_label("Theme", exact=True)
    expect(themes).to_have_value("system")
    expect(body).not_to_have_class(DARK)
    themes.select_option("dark")
    expect(body).to_have_class(DARK)
    page.reload()
    expect(themes).to_have_value("dark")
    expect(body).to_have_class(DARK)
    themes.select_option("system")
    expect(body).not_to_have_class(DARK)
    page.emulate_media(color_scheme="dark")
    expect(body).to_have_class(DARK)
    themes.select_option("light")
    expect(body).not_to_have_class(DARK)
