"""Fault injection for practice servers: late, lost, refused or malformed responses."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal, get_args

from foundation.errors import InputError
from foundation.settings import required_setting, setting, settings_class
from marketsimulator.venue.request import Request

FaultBeforeRequest = Literal["delay", "drop_before", "late", "status"]  # not done, or done later
FaultAfterRequest = Literal["drop_after", "status_after", "malformed", "other"]
OrderFault = Literal[
    "reject",
    "reject_later",
    "partial",
    "state",
    "skew",
    "unlisted",
    "trading_is_paused",
    "exchange_is_paused",
]
FaultKind = Literal[FaultBeforeRequest, FaultAfterRequest, OrderFault]
HttpMethod = Literal[
    "", "GET", "POST", "DELETE"
]  # methods of the requests that practice servers take
FAULTS_BEFORE: tuple[FaultKind, ...] = get_args(FaultBeforeRequest)
FAULTS_AFTER: tuple[FaultKind, ...] = get_args(FaultAfterRequest)

OpenStatus = Literal[
    "new",
    "partially_filled",
    "accepted",
    "held",
    "pending_new",
    "pending_cancel",
    "pending_replace",
]
TerminalStatus = Literal["filled", "canceled", "expired", "replaced", "rejected"]
OrderStatus = Literal[
    OpenStatus,
    TerminalStatus,
    "done_for_day",
    "stopped",
    "suspended",
    "calculated",
    "accepted_for_bidding",
]
OPEN_STATUSES: tuple[OrderStatus, ...] = get_args(OpenStatus)
STATUSES: tuple[OrderStatus, ...] = get_args(OrderStatus)


@settings_class("faults")
class Fault:
    """A fault of the practice server, injected `count` times.

    kind: kind of the fault, one of:
        `delay` does the request and responds `seconds` late;
        `drop_before` and `drop_after` close the connection without and with the request done;
        `late` closes it, and does the request `seconds` later, or at `/control/land`;
        `status` responds with `status` and does nothing, `status_after` does the request first;
        `malformed` does it and responds with half a JSON;
        `other` does it and responds with another order's id;
        `reject` rejects an order, `reject_later` accepts it and rejects it afterwards;
        `partial` fills half of an order and cancels the rest;
        `state` reports an order in `state`, which is not its own;
        `unlisted` responds to a read of orders or fills without the newest order (at Kalshi;
        Alpaca's lists late activities instead);
        `trading_is_paused` and `exchange_is_paused` refuse an order or a cancellation under that
        code, as Kalshi does in a pause;
        `skew` sets the clock `seconds` ahead.
    """

    kind: Annotated[FaultKind, required_setting("kind of the fault")]
    count: int = setting(1, "number of requests that fail", ge=1)
    method: HttpMethod = setting("", "HTTP method of the affected requests; empty: every one")
    path: str = setting("", "beginning of the affected paths; empty: every one")
    status: int = setting(
        500, "HTTP status of the response (usually 429, 500, 502 or 504)", ge=400, lt=600
    )
    seconds: float = setting(1.0, "value of `Retry-After` with status 429, seconds", ge=0, le=3600)
    state: OrderStatus = setting(
        "pending_new", "state of the order in the response, in Alpaca's words"
    )

    def __post_init__(self) -> None:
        if not self.path.startswith("/"[: len(self.path)]):
            raise InputError(f"faults.path: {self.path!r} is not a path, which begins with /")


class FaultPlan:
    """Queue of the faults that are still to be injected."""

    def __init__(self) -> None:
        self._remaining: list[Fault] = []

    def add(self, request: Request) -> None:
        """Add the faults in a request's JSON body: one object, or a list of objects.

        Raises `InputError` for any other JSON.
        """
        body = request.json()
        rows: list[Any] = body if isinstance(body, list) else [body]
        if not all(isinstance(row, dict) for row in rows):
            raise InputError('faults: an object is needed, as {"kind": "drop_after"}')
        self._remaining += [Fault(**row) for row in rows]

    def clear(self) -> None:
        self._remaining.clear()

    def take(self, request: Request, *kinds: FaultKind) -> Fault | None:
        """Take the first planned fault of these kinds that applies to a request, or return None.

        The remaining count of the fault is reduced by one.
        """
        for place, fault in enumerate(self._remaining):
            of_method = fault.method in ("", request.method)
            if fault.kind in kinds and of_method and request.path.startswith(fault.path):
                left = [replace(fault, count=fault.count - 1)] if fault.count > 1 else []
                self._remaining[place : place + 1] = left
                return fault
        return None
