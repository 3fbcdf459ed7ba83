"""A pace of tokens: each request costs some, reads and writes from a bucket of their own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import urlsplit

from foundation.errors import InputError
from foundation.transport import Pace

READS = ("GET", "HEAD")
_NAME = re.compile(r"\\{\w+\\}")  # of a part of a path, once the path is escaped


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """One bucket: a request is allowed while it holds what the request costs.

    rate: tokens a second that flow in, above 0.
    capacity: tokens that it holds at most, above 0.
    """

    rate: float
    capacity: float

    def __post_init__(self) -> None:
        if not (0 < self.rate < float("inf") and 0 < self.capacity < float("inf")):
            raise InputError(
                f"tokens: rate and capacity must be above 0, got {self.rate} and {self.capacity}"
            )


@dataclass(frozen=True, slots=True)
class TokenCosts:
    """What requests cost.

    default: tokens of a request that is not named, at least 0.
    named: tokens by method and path; a part of a path in braces stands for any.
    """

    default: float
    named: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not all(0 <= cost < float("inf") for cost in (self.default, *self.named.values())):
            raise InputError("tokens: a cost must be 0 or more")

    def of(self, method: str, path: str) -> float:
        """Tokens of a request; path: with or without a query."""
        bare = urlsplit(path).path
        for (named_method, pattern), cost in self.named.items():
            if named_method == method and _regex(pattern).fullmatch(bare):
                return cost
        return self.default


class TokenPace(Pace):
    """Requests wait until their bucket holds what they cost; both are full at first.

    read: of requests that change nothing.
    write: of all others.
    costs: of a request.
    clock: seconds that only increase.
    """

    def __init__(
        self,
        read: TokenBudget,
        write: TokenBudget,
        costs: TokenCosts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(None, clock)
        self._budgets = (read, write)
        self._costs = costs
        self._tokens = [read.capacity, write.capacity]
        self._filled_at = clock()

    def allow(self, read: TokenBudget, write: TokenBudget, costs: TokenCosts) -> None:
        """Keep to other budgets and costs from now on; what was used stays used."""
        with self._lock:
            self._fill()
            for k, budget in enumerate((read, write)):
                used = self._budgets[k].capacity - self._tokens[k]
                self._tokens[k] = min(max(budget.capacity - used, 0.0), budget.capacity)
            self._budgets = (read, write)
            self._costs = costs

    def delay(self, method: str = "", path: str = "") -> float:
        """Seconds until a bucket holds what a request costs."""
        self._fill()
        k = self._bucket(method)
        budget = self._budgets[k]
        # What costs more than a bucket holds is sent once it is full: it never holds more.
        missing = min(self._costs.of(method, path), budget.capacity) - self._tokens[k]
        return max(missing / budget.rate, super().delay(method, path), 0.0)

    def _count(self, method: str, path: str) -> None:
        self._tokens[self._bucket(method)] -= self._costs.of(method, path)

    def _fill(self) -> None:
        now = self._clock()
        for k, budget in enumerate(self._budgets):
            filled = self._tokens[k] + (now - self._filled_at) * budget.rate
            self._tokens[k] = min(filled, budget.capacity)
        self._filled_at = now

    @staticmethod
    def _bucket(method: str) -> int:
        return 0 if method in READS else 1


@cache
def shared_token_pace(
    where: str, read: TokenBudget, write: TokenBudget, default_cost: float
) -> TokenPace:
    """The one pace of all clients of an account; where: an address and what names the account."""
    return TokenPace(read, write, TokenCosts(default_cost))


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile(_NAME.sub("[^/]+", re.escape(pattern)))
