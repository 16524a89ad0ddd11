"""Reads the JSON object in the body of a request."""

from __future__ import annotations

import json
from typing import Any

from gptj_demo.api.errors import ApiError


def read_object(content: bytes) -> dict[str, Any]:
    """The JSON object in a body, which must be UTF-8; raises `ApiError` 400."""
    try:
        text = content.decode("utf-8-sig")
        values = json.loads(text)
    except UnicodeDecodeError:
        raise _invalid("The body is not UTF-8, the encoding of JSON.") from None
    except json.JSONDecodeError as error:
        raise _invalid(f"The body is not JSON: {error}.") from None
    except ValueError:  # Python limits the digits of a number
        raise _invalid("A number in the body has too many digits.") from None
    except RecursionError:
        raise _invalid("The lists and objects in the body are nested too deeply.") from None
    if not isinstance(values, dict):
        raise _invalid("The body must be a JSON object.")
    if "\\ud" in text.lower():  # the only way to write half of a surrogate pair in UTF-8
        _check_surrogates(values)
    return values


def _check_surrogates(values: dict[str, Any]) -> None:
    """Raise `ApiError` 400 for the first field with half of a surrogate pair."""
    for name, value in values.items():
        if half := _half_in(json.dumps([name, value], ensure_ascii=False)):
            field = name.encode("ascii", "backslashreplace").decode()[:100]
            why = f"{field} contains U+{ord(half):04X}, an unpaired surrogate. Remove it."
            raise ApiError(400, why, code="invalid_value", param=field)


def _half_in(text: str) -> str | None:
    """The first half of a surrogate pair in a text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return text[error.start]
    return None


def _invalid(why: str) -> ApiError:
    return ApiError(400, why, code="invalid_json")
