"""Requests to a practice server, its routes and refusals, independent of the web server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foundation.errors import InputError, invalid_choice

Response = dict[str, Any]
Query = Mapping[str, str]
MAX_WORD_SHOWN = 40  # characters of a refused word in a message


class Refused(Exception):
    """A request that the venue refuses.

    status: HTTP status.
    code: the API's own code; None for the code of the status.
    """

    def __init__(self, status: int, code: int | str | None, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """A request that has been read completely.

    path: path without the query.
    names: parts of the path, by their names in the route.
    """

    method: str
    path: str
    query: Mapping[str, str]
    names: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body's JSON, {} for an empty body. Raises `InputError` if it is not JSON."""
        try:
            return json.loads(self.body or b"{}")
        except ValueError as error:
            raise InputError(f"body: it is not JSON: {error}") from None
        except RecursionError:
            raise InputError("body: it is nested too deep to be read") from None

    def json_object(self) -> Mapping[str, Any]:
        """Return the body's JSON object. Raises `InputError` if it is not one."""
        body = self.json()
        if not isinstance(body, dict):
            words = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
            kind = words.get(type(body), "a number")
            raise InputError(f"body: a JSON object is needed, not {kind}")
        return body


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path of an API.

    answer: returns the JSON of the response. Raises `Refused`, or `ValueError` for an invalid
        request.
    status: status of the response; 204 has no content.
    """

    method: str
    path: str
    answer: Callable[[Request], Any]
    status: int = 200


def query_integer(
    query: Mapping[str, str], name: str, default: int, low: int = 0, high: int = 2**62
) -> int:
    """Return an integer of a query, both bounds included. Raises `InputError` for anything else."""
    text = query.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
        shown = text if len(text) < 40 else f"{text[:40]}…"
        raise InputError(f"{name}: {shown!r} is not a whole number of {low} to {high}")
    return int(text)


def query_choice(
    query: Mapping[str, str], name: str, words: Sequence[str], default: str = ""
) -> str:
    """Return a word of a query from the supported ones. Raises `InputError` for any other."""
    word = query.get(name, default)
    if name in query and word not in words:
        raise invalid_choice(name, word[:MAX_WORD_SHOWN], words)
    return word


def refuse_unknown_keys(given: Iterable[str], *served: str) -> None:
    """Refuse unknown keys of a request: ignoring them would change its meaning."""
    if others := set(given) - set(served):
        raise InputError(f"{min(others)} is not served here: {', '.join(served)}")
