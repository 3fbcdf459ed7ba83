"""Requests, routes and refusals of a practice server, independent of the web framework.

"Refuse" means to respond with an error status, 4xx.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foundation.errors import InputError, invalid_choice_error

ResponseBody = dict[str, Any]
QueryParameters = Mapping[str, str]
MAX_SHOWN_CHARACTERS = 40  # characters of a refused word in a message


class RequestRefused(Exception):
    """Exception for a request that the venue refuses; its text is the message of the response.

    status: HTTP status.
    code: error code of the API; None: derived from the status.
    """

    def __init__(self, status: int, code: int | str | None, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request whose body has been read completely.

    method: HTTP method.
    path: path without the query.
    query: parameters of the query.
    path_parameters: values of the variable parts of the path, by their names in the route.
    headers: HTTP headers.
    body: bytes of the body.
    """

    method: str
    path: str
    query: Mapping[str, str]
    path_parameters: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Parse the JSON body; an empty body is {}. Raises `InputError` if it is not JSON."""
        try:
            return json.loads(self.body or b"{}")
        except ValueError as error:
            raise InputError(f"body: not valid JSON: {error}") from None
        except RecursionError:
            raise InputError("body: the JSON is nested too deeply") from None

    def json_object(self) -> Mapping[str, Any]:
        """Parse the JSON body, which must be an object. Raises `InputError` if it is not."""
        body = self.json()
        if not isinstance(body, dict):
            words = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
            kind = words.get(type(body), "a number")
            raise InputError(f"body: expected a JSON object, got {kind}")
        return body


@dataclass(frozen=True, slots=True)
class Route:
    """A route of an API: method, path and handler.

    handler: function that returns the JSON of the response. It raises `RequestRefused`, or
        `ValueError` for an invalid request.
    success_status: HTTP status of a successful response; 204 has no content.
    """

    method: str
    path: str
    handler: Callable[[Request], Any]
    success_status: int = 200


def parse_query_integer(
    query: Mapping[str, str], name: str, default: int, minimum: int = 0, maximum: int = 2**62
) -> int:
    """Parse an integer parameter of a query.

    Raises `InputError` for a value that is not an integer from `minimum` to `maximum`.
    """
    text = query.get(name) or str(default)
    if not (
        text.isascii() and text.isdigit() and len(text) < 20 and minimum <= int(text) <= maximum
    ):
        shown = text if len(text) < 40 else f"{text[:40]}…"
        raise InputError(f"{name}: {shown!r} is not a whole number from {minimum} to {maximum}")
    return int(text)


def parse_query_choice(
    query: Mapping[str, str], name: str, choices: Sequence[str], default: str = ""
) -> str:
    """Return the value of a query parameter, which must be one of `choices`.

    default: value if the query lacks the parameter.
    Raises `InputError` for any other value.
    """
    word = query.get(name, default)
    if name in query and word not in choices:
        raise invalid_choice_error(name, word[:MAX_SHOWN_CHARACTERS], choices)
    return word


def refuse_unknown_keys(keys: Iterable[str], *known_keys: str) -> None:
    """Refuse a request with unknown keys, because ignoring them would change its meaning.

    keys: keys of the request.
    known_keys: supported keys.
    Raises `InputError` that names the first unknown key.
    """
    if others := set(keys) - set(known_keys):
        raise InputError(
            f"{min(others)}: not supported by the practice venue; supported:"
            f" {', '.join(known_keys)}"
        )
