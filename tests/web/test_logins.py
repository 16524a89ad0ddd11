"""Guesses of passwords and keys are throttled; cookies have flags; keys change without restart."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from gptj_demo.api.access import Access
from gptj_demo.api.errors import ApiError
from gptj_demo.api.guesses import AT_ONCE, MAX_ADDRESSES, SECONDS_EACH, Guesses
from gptj_demo.api.keys import LOOK_SECONDS, Keys
from gptj_demo.settings import InvalidSettings, Settings

from .conftest import WholeSite, build_site


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def asked(key: str | None, host: str = "192.0.2.7") -> Request:
    headers = [] if key is None else [(b"authorization", f"Bearer {key}".encode())]
    return Request({"type": "http", "headers": headers, "client": (host, 1)})


def status_of(access: Access, key: str | None, host: str = "192.0.2.7") -> int:
    try:
        access.identify(asked(key, host))
    except ApiError as error:
        return error.status
    return 200


def test_an_address_has_some_guesses_and_then_one_at_a_time() -> None:
    clock = Clock()
    guesses = Guesses(clock)
    for _ in range(AT_ONCE):
        assert guesses.wait("192.0.2.7") == 0
        guesses.count("192.0.2.7")
    assert guesses.wait("192.0.2.7") == SECONDS_EACH
    assert guesses.wait("192.0.2.8") == 0
    clock.now += SECONDS_EACH
    assert guesses.wait("192.0.2.7") == 0
    guesses.count("192.0.2.7")
    assert guesses.wait("192.0.2.7") == SECONDS_EACH
    guesses.take_back("192.0.2.7")
    assert guesses.wait("192.0.2.7") == 0


def test_the_addresses_of_a_subscriber_count_as_one_and_memory_is_bounded() -> None:
    guesses = Guesses(Clock())
    for number in range(AT_ONCE):
        guesses.count(f"2001:db8::{number:x}")
    assert guesses.wait("2001:db8::ffff:1") > 0
    assert guesses.wait("2001:db8:0:1::1") == 0
    for number in range(MAX_ADDRESSES + 50):
        guesses.count(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(guesses) == MAX_ADDRESSES


def test_guesses_of_keys_are_throttled_and_a_known_caller_goes_on() -> None:
    access = Access(Settings(api_keys="right-key,second-key"))
    assert status_of(access, "second-key") == 200
    for _ in range(AT_ONCE):
        assert status_of(access, "wrong") == 401
    assert status_of(access, "wrong") == 429
    assert status_of(access, "right-key") == 429  # else the status would confirm a guess
    assert status_of(access, "second-key") == 200
    assert status_of(access, None) == 401
    assert status_of(access, "right-key", "192.0.2.8") == 200
    with pytest.raises(ApiError, match="Try again in") as refused:
        access.identify(asked("wrong"))
    assert int(refused.value.headers["Retry-After"]) >= 1


def test_a_changed_file_of_keys_counts_without_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, clock = tmp_path / "keys", Clock()
    file.write_text("first\nsecond\n")
    keys = Keys(Settings(api_keys="fixed", api_keys_file=file), clock)

    def known() -> list[bool]:
        clock.now += LOOK_SECONDS
        names = (b"fixed", b"first", b"second", b"third")
        return [keys.find_caller(key) is not None for key in names]

    assert known() == [True, True, True, False]
    file.write_text("second\nthird\n# comment\n")
    assert known() == [True, False, True, True]
    file.write_bytes(b"\xff\xfe\x00third")
    with caplog.at_level(logging.WARNING):
        assert known() == [True, False, True, True]
        assert known() == [True, False, True, True]
    assert caplog.text.count("cannot be read") == 1
    assert "keys of before" in caplog.text
    assert "third" not in caplog.text
    file.unlink()
    assert known() == [True, False, True, True]
    file.write_text("")  # every key of the file is revoked
    assert known() == [True, False, False, False]
    assert keys.are_needed


def test_the_first_key_of_a_caller_in_a_file_closes_the_api(tmp_path: Path) -> None:
    file, clock = tmp_path / "keys", Clock()
    file.write_text("metrics:watcher\n")
    keys = Keys(Settings(api_keys_file=file), clock)
    assert not keys.are_needed
    file.write_text("metrics:watcher\nthe-caller\n")
    clock.now += LOOK_SECONDS
    assert keys.are_needed


def test_an_emptied_file_does_not_open_the_api(tmp_path: Path) -> None:
    file, clock = tmp_path / "keys", Clock()
    file.write_text("only\n")
    keys = Keys(Settings(api_keys_file=file), clock)
    clock.now += LOOK_SECONDS
    file.write_text("# none\n")
    assert keys.find_caller(b"only") is None
    assert keys.are_needed
    with pytest.raises(InvalidSettings):
        Keys(Settings(api_keys_file=file), clock)


def test_a_replaced_key_file_is_detected_even_with_equal_size_and_time(
    tmp_path: Path,
) -> None:
    file, clock = tmp_path / "keys", Clock()
    file.write_text("one\n")
    keys = Keys(Settings(api_keys_file=file), clock)
    before = os.stat(file)
    (tmp_path / "new").write_text("two\n")
    os.utime(tmp_path / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(tmp_path / "new", file)
    clock.now += LOOK_SECONDS
    assert (keys.find_caller(b"one"), keys.find_caller(b"two")) == (None, b"two")


def metrics_status(access: Access, key: str | None) -> int:
    try:
        access.identify_monitor(asked(key))
    except ApiError as error:
        return error.status
    return 200


@pytest.mark.parametrize(
    ("settings", "caller", "monitor", "none"),
    [
        ({}, 200, 200, 200),
        ({"api_keys": "caller"}, 200, 401, 401),
        ({"api_keys": "caller,metrics:monitor"}, 401, 200, 401),
        ({"api_keys": "metrics:monitor"}, 401, 200, 401),
        ({"login": "ann:word"}, 401, 401, 401),
        ({"login": "ann:word", "api_keys": "metrics:monitor"}, 401, 200, 401),
    ],
)
def test_metrics_have_a_key_of_their_own(
    settings: dict[str, str], caller: int, monitor: int, none: int
) -> None:
    access = Access(Settings(**settings))  # type: ignore[arg-type]
    statuses = [metrics_status(access, key) for key in ("caller", "monitor", None)]
    assert statuses == [caller, monitor, none]
    if settings and "caller" not in settings.get("api_keys", ""):
        expected = 200 if not access.needs_key else 401
        assert status_of(access, "monitor", "192.0.2.9") == expected  # it opens nothing else


@pytest.fixture(scope="module")
def guarded() -> WholeSite:
    return build_site(login="ann:secret word")


def log_in(site: WholeSite, password: str, peer: str = "192.0.2.1", **options: Any) -> Any:
    data = {"username": "ann", "password": password}
    return site.ask("POST", "/login", peer, data=data, **options)


def test_guesses_of_passwords_are_throttled_by_address(guarded: WholeSite) -> None:
    for _ in range(AT_ONCE):
        assert log_in(guarded, "wrong").status_code == 400
    refused = log_in(guarded, "secret word")
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["detail"].startswith("Too many attempts to log in.")
    for _ in range(3 * AT_ONCE):  # successful logins do not count
        assert log_in(guarded, "secret word", "192.0.2.2").status_code == 200


def test_a_large_login_form_is_refused(guarded: WholeSite) -> None:
    files = {"username": b"x" * 20_000}  # Gradio would write it to the disk
    answer = guarded.ask("POST", "/login", "192.0.2.3", files=files)
    assert answer.status_code == 413
    form = {"username": (None, b"ann"), "password": (None, b"secret word")}  # as the page sends it
    assert guarded.ask("POST", "/login", "192.0.2.3", files=form).status_code == 200


@pytest.mark.parametrize(
    ("address", "origin", "on_a_space", "flags"),
    [
        ("http://localhost:7860", None, False, ["HttpOnly", "SameSite=Lax"]),
        ("https://play.local", None, False, ["HttpOnly", "SameSite=Lax", "Secure"]),
        ("https://play.local", None, True, ["HttpOnly", "SameSite=None", "Secure"]),
        # an untrusted proxy terminates https
        ("http://play.local", "https://play.local", False, ["HttpOnly", "SameSite=Lax", "Secure"]),
    ],
)
def test_the_cookie_of_a_login_has_flags(
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    origin: str | None,
    on_a_space: bool,
    flags: list[str],
) -> None:
    if on_a_space:
        monkeypatch.setenv("SYSTEM", "spaces")
    site = build_site(login="ann:secret word")
    headers = {} if origin is None else {"Origin": origin}
    answer = log_in(site, "secret word", base_url=address, headers=headers)
    cookies = answer.headers.get_list("set-cookie")
    assert len(cookies) == 1
    assert [part.strip() for part in cookies[0].split(";")[1:]] == ["Path=/", *flags]
    pair = cookies[0].partition(";")[0]
    for cookie, status in ((pair, 400), ("", 401)):
        headers = {"Cookie": cookie}
        call = site.ask("GET", "/config", base_url=address, headers=headers)
        assert call.status_code == (200 if status == 400 else 401)
