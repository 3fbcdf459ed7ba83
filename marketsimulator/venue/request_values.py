"""What a request to a practice server says: JSON of its body, whole numbers of its query."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from foundation.errors import InputError


async def json_body(request: web.Request) -> Any:
    """The body's JSON; an empty body is an empty object.

    Raises
    ------
    InputError
        for what is no JSON, or too deep to be read.
    """
    try:
        return json.loads(await request.text() or "{}")
    except (ValueError, LookupError) as error:  # the latter for a charset that is none
        raise InputError(f"body: it is no JSON: {error}") from None
    except RecursionError:
        raise InputError("body: it is nested too deep to be read") from None


async def json_object(request: web.Request) -> Mapping[str, Any]:
    """The body's JSON object; an empty body is an empty one.

    Raises
    ------
    InputError
        for anything else.
    """
    body = await json_body(request)
    if not isinstance(body, dict):
        raise InputError(f"body: a JSON object is needed, not {_kind(body)}")
    return body


def whole_number(
    query: Mapping[str, str], name: str, default: int, low: int = 0, high: int = 2**62
) -> int:
    """A whole number of a query, both bounds included.

    Raises
    ------
    InputError
        naming the field, what came and what may.
    """
    text = query.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
        shown = text if len(text) < 40 else f"{text[:40]}…"
        raise InputError(f"{name}: {shown!r} is no whole number of {low} to {high}")
    return int(text)


def _kind(value: Any) -> str:
    words = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return words.get(type(value), "a number")
