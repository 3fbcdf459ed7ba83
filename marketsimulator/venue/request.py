"""What a practice server is asked, what answers it, and how a venue refuses: no web server yet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foundation.errors import InputError, invalid_choice

Response = dict[str, Any]
Query = Mapping[str, str]
MAX_WORD_SHOWN = 40  # characters of a refused word that are shown


class Refused(Exception):
    """A request that the venue does not take.

    status: of HTTP.
    code: the API's own; None for the one that goes with the status.
    """

    def __init__(self, status: int, code: int | str | None, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """A request, read to its end.

    path: without the query.
    names: parts of the path, by the names that the route has for them.
    """

    method: str
    path: str
    query: Mapping[str, str]
    names: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body's JSON, an empty body being an empty object; `InputError` for what is none."""
        try:
            return json.loads(self.body or b"{}")
        except ValueError as error:
            raise InputError(f"body: it is no JSON: {error}") from None
        except RecursionError:
            raise InputError("body: it is nested too deep to be read") from None

    def json_object(self) -> Mapping[str, Any]:
        """The body's JSON object, as `json`."""
        body = self.json()
        if not isinstance(body, dict):
            words = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
            kind = words.get(type(body), "a number")
            raise InputError(f"body: a JSON object is needed, not {kind}")
        return body


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path of an API.

    answer: the JSON that a request is answered with; it may raise `Refused`, and `ValueError` for
        what makes no sense.
    status: of the answer; 204 has no content.
    """

    method: str
    path: str
    answer: Callable[[Request], Any]
    status: int = 200


def query_integer(
    query: Mapping[str, str], name: str, default: int, low: int = 0, high: int = 2**62
) -> int:
    """A whole number of a query, both bounds included; `InputError` for anything else."""
    text = query.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
        shown = text if len(text) < 40 else f"{text[:40]}…"
        raise InputError(f"{name}: {shown!r} is no whole number of {low} to {high}")
    return int(text)


def query_choice(
    query: Mapping[str, str], name: str, words: Sequence[str], default: str = ""
) -> str:
    """The word of a query, one of those that are served; `InputError` for any other."""
    word = query.get(name, default)
    if name in query and word not in words:
        raise invalid_choice(name, word[:MAX_WORD_SHOWN], words)
    return word


def refuse_unknown_keys(given: Iterable[str], *served: str) -> None:
    """Refuse what a request says and nobody here reads: to pass over it would change its sense."""
    if others := set(given) - set(served):
        raise InputError(f"{min(others)} is not served here: {', '.join(served)}")
