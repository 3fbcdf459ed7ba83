"""Fault injection for practice servers: faulty responses and slow venues.

docs/VENUE.md states the source of each kind of slow venue.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from execution.orders.orders import OrderType, Side
from foundation.errors import InputError
from foundation.settings import required_setting, setting, settings_class
from practice.request import Request

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
    "slow_cancel",
    "partial_rests",
    "elected_rests",
    "converted_stop",
    "stale_positions",
    "wrong_marks",
]
FaultKind = Literal[FaultBeforeExecution, FaultAfterExecution, OrderFault]
HttpMethod = Literal[
    "", "GET", "POST", "DELETE"
]  # methods of the requests that practice servers take
ENDLESS_FAULTS: tuple[FaultKind, ...] = ("slow_cancel", "partial_rests", "elected_rests")
ORDER_FIELDS = ("symbol", "side", "type")  # fields of an order that can restrict a fault
RESTRICTED_FAULTS: Mapping[FaultKind, Mapping[str, str]] = {
    "elected_rests": {"type": "stop_limit"},
    "converted_stop": {"type": "stop", "side": "buy"},
}
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

    Kinds of a slow venue, only at Alpaca's server and for orders in one symbol. Their `seconds` are
    measured by the venue's clock; null means never:
        `slow_cancel`: a cancellation is accepted (204). Until it completes `seconds` later, the
            order is `pending_cancel`, reserves its shares, and may fill;
        `partial_rests`: half of the order fills. The other half rests, and trades `seconds` later;
        `elected_rests`: a stop-limit order whose stop is reached rests unfilled as a limit order,
            and trades `seconds` later;
        `converted_stop`: a buy stop becomes a stop-limit order, as at Alpaca;
        `stale_positions`: positions show the order's fills `seconds` later; account and order show
            them at once;
        `wrong_marks`: account and positions value positions at `factor` times their prices; market
            data are right.
    """

    kind: Annotated[FaultKind, required_setting("kind of the fault")]
    count: int = setting(1, "number of requests that the fault affects", ge=1)
    method: HttpMethod = setting("", "HTTP method of the affected requests; empty: every method")
    path: str = setting("", "prefix of the paths of the affected requests; empty: every path")
    status: int = setting(
        500, "HTTP status of the response (usually 429, 500, 502 or 504)", ge=400, lt=600
    )
    seconds: float | None = setting(
        1.0,
        "seconds until the delayed part happens (`status` 429: `Retry-After`); null: never",
        ge=0,
        le=3600,
    )
    factor: float = setting(
        0.9, "multiple of the true prices that `wrong_marks` shows", gt=0, le=10
    )
    symbol: str = setting("", "symbol of the affected orders; empty: every symbol")
    side: Literal["", Side] = setting("", "side of the affected orders; empty: both")
    type: Literal["", OrderType] = setting("", "type of the affected orders; empty: every type")
    state: OrderStatus = setting(
        "pending_new", "order status that the response shows, one of Alpaca's"
    )

    def __post_init__(self) -> None:
        if not self.path.startswith("/"[: len(self.path)]):
            raise InputError(f"faults.path: {self.path!r} is not a path; it must begin with /")
        if self.seconds is None and self.kind not in ENDLESS_FAULTS:
            raise InputError(
                f"faults.seconds: null (never) is not possible for {self.kind}; give a number, or"
                f" one of {', '.join(ENDLESS_FAULTS)}"
            )

    def applies_to(self, request: Request, order: Mapping[str, Any]) -> bool:
        """Return whether the fault applies to a request.

        order: order of the request in Alpaca's format, with symbol, side and type.
        """
        wanted = {name: getattr(self, name) for name in ORDER_FIELDS}
        wanted |= RESTRICTED_FAULTS.get(self.kind, {})
        of_order = all(
            not value or value == str(order.get(name)).replace("/", "")
            for name, value in wanted.items()
        )
        return (
            of_order and self.method in ("", request.method) and request.path.startswith(self.path)
        )

    @property
    def delay_seconds(self) -> float:
        """The delay in seconds; infinite if the delayed part never happens."""
        return math.inf if self.seconds is None else self.seconds


def parse_faults(rows: Any) -> list[InjectedFault]:
    """Parse a JSON list of fault objects. Raises `InputError` for other values."""
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise InputError(
            'faults: expected an object or a list of objects, such as {"kind": "drop_after"}'
        )
    return [InjectedFault(**row) for row in rows]


def read_faults(path: Path) -> list[InjectedFault]:
    """Read the list of faults under the key `faults` of a JSON file, such as a probe's transcript.

    Raises `InputError` with the name of the file.
    """
    try:
        transcript = json.loads(path.read_text())
        return parse_faults(transcript["faults"])
    except OSError as error:
        raise InputError(f"--faults: {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"--faults: {path}: {error}; expected a JSON object such as"
            ' {"faults": [{"kind": "slow_cancel", "seconds": 3}]}'
        ) from None


class FaultQueue:
    """Queue of the faults that are still to be injected."""

    def __init__(self) -> None:
        self._remaining: list[InjectedFault] = []

    def add_faults(self, request: Request) -> None:
        """Add the faults in a request's JSON body: one object, or a list of objects.

        Raises `InputError` for any other JSON.
        """
        body = request.json()
        self.plan_faults(parse_faults(body if isinstance(body, list) else [body]))

    def plan_faults(self, faults: Iterable[InjectedFault]) -> None:
        """Add faults to inject after those already planned."""
        self._remaining += faults

    def clear(self) -> None:
        self._remaining.clear()

    def consume_fault(
        self, request: Request, *kinds: FaultKind, order: Mapping[str, Any] | None = None
    ) -> InjectedFault | None:
        """Return the first planned fault of these kinds that applies to a request, or None.

        The fault's remaining count is reduced by one.

        order: order of the request in Alpaca's format; None: the order in the request's body.
        """
        if order is None:
            order = _order_in_body(request)
        for place, fault in enumerate(self._remaining):
            if fault.kind in kinds and fault.applies_to(request, order):
                left = [replace(fault, count=fault.count - 1)] if fault.count > 1 else []
                self._remaining[place : place + 1] = left
                return fault
        return None


def _order_in_body(request: Request) -> Mapping[str, Any]:
    """Return the JSON object in a request's body; empty if there is none."""
    with suppress(InputError):
        return request.json_object()
    return {}
