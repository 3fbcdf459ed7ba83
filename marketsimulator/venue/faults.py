"""What goes wrong at a venue, on demand: answers that are late, lost, refused or nonsense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foundation.errors import InputError
from marketsimulator.venue.tickets import STATUSES

BEFORE_FAULTS = ("delay", "drop_before", "late", "silent", "status")  # the request is not done yet
AFTER_FAULTS = (
    *("drop_after", "status_after", "malformed", "trickle", "html", "null", "empty", "other"),
)
ORDER_FAULTS = ("reject", "reject_later", "partial", "state", "skew", "unlisted")
KINDS = (*BEFORE_FAULTS, *AFTER_FAULTS, *ORDER_FAULTS)


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to fail, `count` times.

    kind: what goes wrong, one of:
        `delay` does the request and answers late by `seconds`;
        `drop_before` and `drop_after` close the connection without and with the request done;
        `late` closes it, and does the request `seconds` later, or at `/control/land`;
        `silent` keeps it open for `seconds` and does nothing;
        `status` answers with `status` and does nothing, `status_after` does the request first;
        `malformed`, `html`, `null` and `empty` do the request and answer with half a JSON, a page,
        `null` and `[]`;
        `trickle` does it and sends the answer a byte every `seconds`;
        `other` does it and answers as if another order were meant;
        `reject` takes no order, `reject_later` turns one down that was taken;
        `partial` fills half of an order and cancels the rest;
        `state` shows an order in `state`, which is not its own;
        `unlisted` answers a read of orders or fills as if the newest order were not there (at
        Kalshi; Alpaca's lists late activities instead);
        `skew` lets the clock say `seconds` too much.
    count: how often, from 1.
    method: of the requests it meets; empty for every one.
    path: beginning of the paths it meets; empty for every one.
    status: of HTTP, 400 to 599 (429, 500, 502 and 504 are the usual ones).
    seconds: 0 to 3600; with status 429 what `Retry-After` says.
    retry_after: what it says instead, whatever the status; empty for the seconds of a 429.
    state: one of `STATUSES`.
    """

    kind: str
    count: int = 1
    method: str = ""
    path: str = ""
    status: int = 500
    seconds: float = 1.0
    retry_after: str = ""
    state: str = "pending_new"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"faults: kind {self.kind!r} is none of {', '.join(KINDS)}")
        if self.count < 1:
            raise InputError(f"faults: count {self.count} is below 1")
        if not 400 <= self.status < 600:
            raise InputError(f"faults: status {self.status} is outside 400 … 599")
        if self.state not in STATUSES:
            raise InputError(f"faults: state {self.state!r} is none of {', '.join(STATUSES)}")
        if not 0 <= self.seconds <= 3600:
            raise InputError(f"faults: seconds {self.seconds} is outside 0 … 3600")
        if not self.retry_after.isprintable():
            raise InputError("faults: retry_after: a header holds no line ends or controls")

    def meets(self, method: str, path: str) -> bool:
        """Whether it is meant for a request."""
        return (not self.method or self.method == method) and path.startswith(self.path)


_WORDS = ("kind", "method", "path", "retry_after", "state")
_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(_WORDS, str),
    **dict.fromkeys(("count", "status"), int),
    "seconds": (int, float),
}
_TYPE_NAMES = {str: "text", int: "whole number", (int, float): "number"}


class FaultPlan:
    """What is still to go wrong, in order."""

    def __init__(self) -> None:
        self._remaining: list[tuple[Fault, int]] = []

    def add(self, fault: Fault) -> None:
        """Plan one more."""
        self._remaining.append((fault, fault.count))

    def clear(self) -> None:
        """Forget all."""
        self._remaining.clear()

    def take(self, kinds: Sequence[str], method: str = "", path: str = "") -> Fault | None:
        """The first planned fault of these kinds that meets a request, counted down."""
        for place, (fault, count) in enumerate(self._remaining):
            if fault.kind in kinds and fault.meets(method, path):
                if count > 1:
                    self._remaining[place] = (fault, count - 1)
                else:
                    del self._remaining[place]
                return fault
        return None


def parse_faults(body: Any) -> list[Fault]:
    """The faults of a JSON object, or of a list of them.

    Raises
    ------
    InputError
        for a key or value that cannot be.
    """
    return [_parse_fault(each) for each in (body if isinstance(body, list) else [body])]


def _parse_fault(request: Any) -> Fault:
    if not isinstance(request, dict):
        raise InputError('faults: an object is needed, as {"kind": "drop_after"}')
    unknown = set(request) - set(Fault.__slots__)
    if unknown:
        raise InputError(
            f"faults: there is no {sorted(unknown)[0]!r}; a fault has {', '.join(Fault.__slots__)}"
        )
    if "kind" not in request:
        raise InputError(f"faults: kind is missing; one of {', '.join(KINDS)}")
    for name, value in request.items():
        if isinstance(value, bool) or not isinstance(value, _TYPES[name]):
            raise InputError(f"faults: {name}: {value!r} is no {_TYPE_NAMES[_TYPES[name]]}")
    return Fault(**request)
