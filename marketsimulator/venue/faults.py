"""Fault injection for practice servers: late, lost, refused or malformed responses."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal, get_args

from foundation.errors import InputError
from foundation.settings import required_setting, setting, settings_class
from marketsimulator.venue.request import Request

FaultBeforeExecution = Literal["delay", "drop_before", "late", "status"]  # before execution
FaultAfterExecution = Literal["drop_after", "status_after", "malformed", "other"]
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
FaultKind = Literal[FaultBeforeExecution, FaultAfterExecution, OrderFault]
HttpMethod = Literal[
    "", "GET", "POST", "DELETE"
]  # methods of the requests that practice servers take
FAULTS_BEFORE_EXECUTION: tuple[FaultKind, ...] = get_args(FaultBeforeExecution)
FAULTS_AFTER_EXECUTION: tuple[FaultKind, ...] = get_args(FaultAfterExecution)

OpenOrderStatus = Literal[
    "new",
    "partially_filled",
    "accepted",
    "held",
    "pending_new",
    "pending_cancel",
    "pending_replace",
]
TerminalOrderStatus = Literal["filled", "canceled", "expired", "replaced", "rejected"]
OrderStatus = Literal[
    OpenOrderStatus,
    TerminalOrderStatus,
    "done_for_day",
    "stopped",
    "suspended",
    "calculated",
    "accepted_for_bidding",
]
OPEN_ORDER_STATUSES: tuple[OrderStatus, ...] = get_args(OpenOrderStatus)
ORDER_STATUSES: tuple[OrderStatus, ...] = get_args(OrderStatus)


@settings_class("faults")
class InjectedFault:
    """A fault that a practice server injects into `count` requests.

    kind: kind of the fault, one of:
        `delay`: the request is executed, and the response comes `seconds` late;
        `drop_before`: the connection is closed and the request is not executed;
        `drop_after`: the request is executed, and the connection is closed without a response;
        `late`: the connection is closed, and the request is executed `seconds` later, or at once
        on `POST /control/land`;
        `status`: the response has the HTTP status `status`, and the request is not executed;
        `status_after`: the request is executed, and the response has the HTTP status `status`;
        `malformed`: the request is executed, and the response is incomplete JSON;
        `other`: the request is executed, and the response has the id of another order;
        `reject`: the order is rejected;
        `reject_later`: the order is accepted and rejected afterwards;
        `partial`: half of the order fills and the rest is cancelled;
        `state`: the response shows `state` in place of the order's true status;
        `unlisted`: the response to a query of orders or fills lacks the newest order (Kalshi
        only; at Alpaca's server a control route delays the listing of activities);
        `trading_is_paused`, `exchange_is_paused`: an order or cancellation is refused with this
        error code, as Kalshi does in a pause;
        `skew`: the server's clock is set `seconds` ahead.
    """

    kind: Annotated[FaultKind, required_setting("kind of the fault")]
    count: int = setting(1, "number of requests that the fault affects", ge=1)
    method: HttpMethod = setting("", "HTTP method of the affected requests; empty: every method")
    path: str = setting("", "prefix of the paths of the affected requests; empty: every path")
    status: int = setting(
        500, "HTTP status of the response (usually 429, 500, 502 or 504)", ge=400, lt=600
    )
    seconds: float = setting(
        1.0, "seconds in the `Retry-After` header of a response with status 429", ge=0, le=3600
    )
    state: OrderStatus = setting(
        "pending_new", "order status that the response shows, one of Alpaca's"
    )

    def __post_init__(self) -> None:
        if not self.path.startswith("/"[: len(self.path)]):
            raise InputError(f"faults.path: {self.path!r} is not a path; it must begin with /")


class FaultQueue:
    """Queue of the faults that are still to be injected."""

    def __init__(self) -> None:
        self._remaining: list[InjectedFault] = []

    def add_faults(self, request: Request) -> None:
        """Add the faults in a request's JSON body: one object, or a list of objects.

        Raises `InputError` for any other JSON.
        """
        body = request.json()
        rows: list[Any] = body if isinstance(body, list) else [body]
        if not all(isinstance(row, dict) for row in rows):
            raise InputError(
                'faults: expected an object or a list of objects, such as {"kind": "drop_after"}'
            )
        self._remaining += [InjectedFault(**row) for row in rows]

    def clear(self) -> None:
        self._remaining.clear()

    def consume_fault(self, request: Request, *kinds: FaultKind) -> InjectedFault | None:
        """Return the first planned fault of these kinds that applies to a request, or None.

        The fault's remaining count is reduced by one.
        """
        for place, fault in enumerate(self._remaining):
            of_method = fault.method in ("", request.method)
            if fault.kind in kinds and of_method and request.path.startswith(fault.path):
                left = [replace(fault, count=fault.count - 1)] if fault.count > 1 else []
                self._remaining[place : place + 1] = left
                return fault
        return None
