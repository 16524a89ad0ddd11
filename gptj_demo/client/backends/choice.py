"""Chooses the backend; the one place that does."""

import httpx

from gptj_demo.client.backends.base import Backend
from gptj_demo.client.backends.local import LocalBackend
from gptj_demo.client.backends.rayserve import make_ray_backend
from gptj_demo.client.backends.zerogpu import ZeroGpuBackend
from gptj_demo.hosting import is_on_zerogpu
from gptj_demo.served import BACKEND
from gptj_demo.settings import InvalidSettings, Settings


def make_backend(settings: Settings) -> Backend:
    """The backend for these settings; raises `InvalidSettings`."""
    if settings.backend == BACKEND:
        _check_served(settings)
        return LocalBackend(settings)
    for name in ("url", "url_key", "tokenizer"):
        if getattr(settings, name) is not None:
            raise InvalidSettings(f"{name} is for backend {BACKEND}: set that, or leave it out.")
    if settings.engines is not None or settings.ray_address is not None:
        return make_ray_backend(settings)
    return ZeroGpuBackend(settings) if is_on_zerogpu() else LocalBackend(settings)


def _check_served(settings: Settings) -> None:
    """Raise `InvalidSettings` if url is missing or wrong, or a setting has no effect here."""
    for name in ("adapter", "draft", "engines", "ray_address"):
        if getattr(settings, name) is not None:
            raise InvalidSettings(
                f"{name} has no effect with backend {BACKEND}, as the model is in another server: "
                "leave it out."
            )
    if settings.url is None:
        raise InvalidSettings(
            f"backend {BACKEND} needs url, the address of a server's completions API such as "
            "http://localhost:8000/v1."
        )
    try:
        url = httpx.URL(settings.url)
    except (httpx.InvalidURL, ValueError):
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidSettings(
            "url must be an address such as http://localhost:8000/v1, with http or https."
        )
    if url.userinfo:
        raise InvalidSettings("url contains credentials: move them to GPTJ_URL_KEY.")
    key = "" if settings.url_key is None else settings.url_key.get_secret_value()
    if not (key.isascii() and key.isprintable()):
        raise InvalidSettings(
            "url_key contains a line end or a control character, or one outside ASCII: remove it."
        )
