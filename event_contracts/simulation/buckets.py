"""Tokens that requests cost: a bucket for reads and one for writes, refilled as time passes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from foundation.errors import refuse_outside

DEFAULT_COST = 10
COSTS = {  # of endpoints whose cost is another than the default
    ("GET", "/trade-api/v2/portfolio/orders/{order_id}"): 2,
}


@dataclass(frozen=True, slots=True)
class BucketLimits:
    """What an account may ask for; those of the lowest tier by default.

    read: tokens a second for reads, 1 … 1,000,000.
    write: tokens a second for orders, cancels and changes of them, 1 … 1,000,000.
    burst: seconds of refilling that a full bucket holds, 0.1 … 60.
    """

    read: int = 200
    write: int = 100
    burst: float = 1.0

    def __post_init__(self) -> None:
        refuse_outside(self, "buckets", read=(1, 1e6), write=(1, 1e6), burst=(0.1, 60))

    def capacity(self, rate: int) -> int:
        """Tokens in a full bucket that is refilled at a rate."""
        return max(math.floor(rate * self.burst), 1)


class TokenBucket:
    """One bucket, full at the beginning.

    rate: tokens a second. capacity: tokens. now: seconds of the clock that `take` is asked with.
    """

    def __init__(self, rate: int, capacity: int, now: float) -> None:
        self.rate = rate
        self.capacity = capacity
        self._tokens = float(capacity)
        self._filled_at = now

    def take(self, cost: int, now: float) -> bool:
        """Whether there are so many tokens; they are gone then, and otherwise none is."""
        refilled = (now - self._filled_at) * self.rate
        self._tokens = min(self._tokens + refilled, self.capacity)
        self._filled_at = now
        if self._tokens < cost:
            return False
        self._tokens -= cost
        return True


class Buckets:
    """The two buckets of an account.

    now: seconds of a monotonic clock.
    """

    def __init__(self, limits: BucketLimits, now: float) -> None:
        self.limits = limits
        self.read = TokenBucket(limits.read, limits.capacity(limits.read), now)
        self.write = TokenBucket(limits.write, limits.capacity(limits.write), now)

    def take(self, method: str, route: str, now: float) -> bool:
        """Whether a request may be done; it is paid for then.

        route: its path with names in braces, as the list of costs has them.
        """
        bucket = self.read if method == "GET" else self.write
        return bucket.take(COSTS.get((method, route), DEFAULT_COST), now)
