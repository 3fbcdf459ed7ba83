"""A pace of tokens: each request costs ten, reads and writes from a bucket of their own.

The buckets are those of the venue's lowest tier, which hold what flows into them in a second: an
account that may ask for more is asked less of. Nothing of an account is read to find that out.
"""

from __future__ import annotations

from functools import cache

from foundation.clock import OURS, Time
from foundation.transport import Pace

READS = ("GET", "HEAD")
RATES = (200.0, 100.0)  # tokens a second, and in a full bucket: of reads, and of all others
COST = 10  # tokens of a request


class TokenPace(Pace):
    """Requests wait until their bucket holds what they cost; both are full at first."""

    def __init__(self, time: Time = OURS) -> None:
        super().__init__(None, time)
        self._tokens = list(RATES)
        self._filled_at = time.elapsed()

    def delay(self, method: str = "", path: str = "") -> float:
        """Seconds until a bucket holds what a request costs."""
        now = self.time.elapsed()
        for k, rate in enumerate(RATES):
            self._tokens[k] = min(self._tokens[k] + (now - self._filled_at) * rate, rate)
        self._filled_at = now
        k = _bucket(method)
        return max((COST - self._tokens[k]) / RATES[k], super().delay(method, path), 0.0)

    def _count(self, method: str, path: str) -> None:
        self._tokens[_bucket(method)] -= COST


def _bucket(method: str) -> int:
    return 0 if method in READS else 1


@cache
def shared_token_pace(where: str) -> TokenPace:
    """The one pace of all clients of an account; where: an address and what names the account."""
    return TokenPace()
