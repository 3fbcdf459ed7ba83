"""Attacks on the answers of a practice server.

An attack is a function: it is handed the method, the path and the JSON of an answer, and returns
the JSON that the client gets. Nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from tests.e2e.practice import Practice
from tests.support.served import Change, changed


@contextmanager
def changed_answers(here: Practice, change: Change) -> Iterator[Practice]:
    """A practice server as clients of this process see it, until the block ends."""
    with changed(here.url, change) as url:
        yield replace(here, url=url)


@dataclass
class Told:
    """An attack on the answers to one path, while it is armed.

    path: of the answers.
    fields: that are put over those of the answer, or what makes another answer of it.
    answers: how many are changed from now on; 0 changes none.
    method: of the requests.
    """

    path: str
    fields: Mapping[str, Any] | Callable[[Any], Any]
    answers: int = 0
    method: str = "GET"

    def __call__(self, method: str, path: str, told: Any) -> Any:
        """The answer, changed where it is one of those that are."""
        if (method, path) != (self.method, self.path) or self.answers < 1:
            return told
        self.answers -= 1
        return self.fields(told) if callable(self.fields) else {**told, **self.fields}


@dataclass
class LaggingPositions:
    """Positions that for some answers after an order are those before it.

    answers: number of these answers.
    """

    answers: int
    left: int = 0
    before: Any = ()

    def __call__(self, method: str, path: str, told: Any) -> Any:
        if (method, path) == ("POST", "/v2/orders"):
            self.left = self.answers
        if (method, path) != ("GET", "/v2/positions"):
            return told
        if self.left:
            self.left -= 1
            return self.before
        self.before = told
        return told


def richer(usd: float) -> Callable[[Any], Any]:
    """An account with more cash, consistent in itself."""

    def change(told: Any) -> Any:
        sums = ("cash", "equity", "portfolio_value", "buying_power", "non_marginable_buying_power")
        return {**told, **{name: repr(float(told[name]) + usd) for name in sums}}

    return change
