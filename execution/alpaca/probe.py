"""Probe of a venue: its answers to one-share orders of a paper account, and their latencies.

Each step states what the practice venue (`practice.alpaca_server`) answers without faults,
which is at once. Any other answer, or a later one, is a deviation. Many deviations have a fault
with which the practice venue answers like the real one.

Every order is recorded in the account's journal before it is sent, is valid for one session, and
has an id that begins with `probe-`. `VenueProbe.close` cancels the open orders of every probe in
the journal, also of one that was killed, and sells the shares that they bought.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Literal, Protocol

import numpy as np

from execution.alpaca.account import read_order_id
from execution.alpaca.fields import OrderEntry
from execution.alpaca.holdings import read_positions
from execution.alpaca.order_venue import OrderVenue
from execution.alpaca.placed_order import AlpacaOrder
from execution.brokers import NO_POSITION
from execution.journal.order_store import OrderIntent
from execution.journal.outbox import InconclusiveResponse, Outbox
from execution.orders.auctions import auction_refusal_reason
from execution.orders.orders import Order, make_order_id
from foundation.errors import BrokerError, to_one_line
from foundation.settings import setting, settings_class

FindingLevel = Literal["ok", "warning", "failure"]
ProbeAction = Literal["submit", "trade", "repeat", "replace", "cancel", "read"]

PROBE_JOB = "probe"  # job of the orders in the journal, and prefix of their ids
PROMPT_SECONDS = 2.0  # longest answer that counts as immediate: the internet takes less
MAX_WAIT_SECONDS = 60.0  # longest wait for the end of a step
POLL_SECONDS = 0.25  # seconds between two readings of the account, or attempts to cancel
CLOSING_SECONDS = 300.0  # longest wait for the end of all orders
CLOSING_DELAYS_SECONDS = (0.0, 5.0, 15.0, 60.0)  # seconds before each attempt to close
ALL_REQUESTS = 1_000_000  # count of a fault that affects all requests
MAX_PRICE_RATIO = 1.2  # highest price of an order, multiples of the last trade
# Method and path of an action's request, and the kind of fault that delays its effect.
_FAULT_TERMS: Mapping[ProbeAction, Mapping[str, Any]] = {
    "submit": {"kind": "delay", "method": "POST", "path": "/v2/orders"},
    "cancel": {"kind": "slow_cancel", "method": "DELETE", "path": "/v2/orders"},
    "read": {"kind": "stale_positions"},
}
_HTTP_STATUS = re.compile(r"(?:\(|status )(\d{3})\b")
_OPEN_ORDERS = f"job = '{PROBE_JOB}' AND state IN ('accepted', 'submitting', 'unknown')"


@settings_class("probe")
class ProbeSettings:
    """Orders of the probe."""

    symbol: str = setting("F", "stock of which the probe buys and sells one share")
    max_order: float = setting(100.0, "largest value of an order, USD", gt=0, le=1e5)


@settings_class()
class DoctorOptions:
    """Settings of the doctor beyond those of the live loop."""

    venue: Literal["read", "probe"] = setting(
        "read", "read: send no order | probe: measure a paper account's answers to small orders"
    )
    probe: ProbeSettings = setting(ProbeSettings(), "orders of venue=probe")


@dataclass(frozen=True, slots=True)
class ProbeStep:
    """One request of the probe, and the venue's answer.

    name: name of the step.
    action: kind of the request.
    assumed: answers of the practice venue, separated by ` or `.
    needed: step whose order must be open, or filled if it is the purchase; empty: none.
    terms: terms of the order.
    answer: the venue's answer: `accepted`, an order status, `shown`, `not shown`, `refused` with
        the HTTP status, or `no answer`; empty if the step was skipped.
    seconds: seconds from the request to the answer.
    detail: the venue's message, or the reason why the step was skipped.
    """

    name: str
    action: ProbeAction
    assumed: str
    needed: str = ""
    terms: Mapping[str, Any] = field(default_factory=dict)
    answer: str = ""
    seconds: float = 0.0
    detail: str = ""

    @property
    def level(self) -> FindingLevel:
        """`failure` for a deviation, `warning` for a skipped step, else `ok`."""
        is_assumed = self.answer in self.assumed.split(" or ") and self.seconds <= PROMPT_SECONDS
        return "warning" if not self.answer else "ok" if is_assumed else "failure"

    @property
    def fault(self) -> Mapping[str, Any] | None:
        """Fault with which the practice venue answers alike; None without one."""
        effect: dict[str, Any]
        match self.answer.split():
            case ["refused", status]:
                # A server error is a failure of one request; any other status is a rule.
                count = 1 if int(status) >= HTTPStatus.INTERNAL_SERVER_ERROR else ALL_REQUESTS
                effect = {"kind": "status", "status": int(status), "count": count}
            case ["accepted", "as", _]:
                effect = {"kind": "converted_stop"}
            case [*_] if self.seconds > PROMPT_SECONDS:
                has_ended = self.action != "cancel" or self.answer == self.assumed
                effect = {"seconds": round(self.seconds, 3) if has_ended else None}
            case _:
                return None
        filters = {key: self.terms[key] for key in ("side", "type") if key in self.terms}
        fault = {"count": ALL_REQUESTS, **filters, **_FAULT_TERMS.get(self.action, {}), **effect}
        return fault if self.level == "failure" and "kind" in fault else None

    def __str__(self) -> str:
        found = f"{self.answer} after {self.seconds:.2f} s, assumed: {self.assumed} at once"
        sent = " ".join(map(str, self.terms.values()))
        return "; ".join(filter(None, (sent, found if self.answer else "skipped", self.detail)))


def plan_steps(price: float, at: np.datetime64) -> tuple[ProbeStep, ...]:
    """Return the steps of a probe, in sequence.

    The prices of limit and stop orders are so far from the market that none trades.

    price: last trade of the stock, USD.
    at: time of the venue's clock, which decides whether the opening auction accepts orders.
    """
    lower, low, high = (round(price * each, 2) for each in (0.79, 0.8, MAX_PRICE_RATIO))
    limit: dict[str, Any] = {"side": "buy", "type": "limit", "limit_price": low}
    stop = {"side": "sell", "type": "stop", "stop_price": low}
    buy_stop = {**stop, "side": "buy", "stop_price": high}
    stop_limit = {**stop, "type": "stop_limit", "limit_price": lower}
    auction = Order(PROBE_JOB, "F", qty=Decimal(1), reason=PROBE_JOB, tif="opg", **limit)
    in_auction = "refused 403" if auction_refusal_reason(auction, at) else "accepted"
    # The practice venue serves no replacement. Alpaca refuses (422) to replace an order that is
    # accepted and not yet new.
    replaced = "replaced or refused 405 or refused 422"
    return (
        ProbeStep("limit", "submit", "accepted", terms=limit),
        ProbeStep("duplicate id", "repeat", "refused 422", "limit"),
        ProbeStep("replace", "replace", replaced, "limit", {"limit_price": f"{lower}"}),
        ProbeStep("cancel limit", "cancel", "canceled", "limit"),
        ProbeStep("buy stop", "submit", "accepted", terms=buy_stop),
        ProbeStep("cancel buy stop", "cancel", "canceled", "buy stop"),
        ProbeStep("opening auction", "submit", in_auction, terms={**limit, "tif": "opg"}),
        ProbeStep("cancel opening auction", "cancel", "canceled", "opening auction"),
        ProbeStep("purchase", "trade", "filled", terms={"side": "buy"}),
        ProbeStep("position after purchase", "read", "shown", "purchase"),
        ProbeStep("stop-limit", "submit", "accepted", "purchase", stop_limit),
        ProbeStep("cancel stop-limit", "cancel", "canceled", "stop-limit"),
        ProbeStep("stop", "submit", "accepted", "purchase", stop),
        ProbeStep("sale beside stop", "submit", "refused 403", "stop", {"side": "sell"}),
        ProbeStep("cancel stop", "cancel", "canceled", "stop"),
    )


class StepReporter(Protocol):
    """Interface of a reporter that is notified of the steps of a probe."""

    def report_step(self, step: ProbeStep) -> None: ...


@dataclass(slots=True)
class VenueProbe:
    """Probe of a venue with orders for one share of a stock.

    venue: connection to the venue.
    outbox: sender of the orders, with the account's journal.
    symbol: the stock; no order or position in it may exist.
    reporter: reporter that is notified of each step at its end.
    is_open: true if the exchange is open; no order that should trade is sent otherwise.
    orders: orders that were accepted or filled, by the name of their step.
    """

    venue: OrderVenue
    outbox: Outbox[AlpacaOrder]
    symbol: str
    reporter: StepReporter
    is_open: bool
    orders: dict[str, AlpacaOrder] = field(default_factory=dict)

    def execute(self, step: ProbeStep) -> None:
        """Send the request of a step, measure the answer, and report the step."""
        began = self.venue.time.monotonic()
        answer, detail = "", f"needs {step.needed or 'an open exchange'}"
        try:
            if step.needed in ("", *self.orders) and (self.is_open or step.action != "trade"):
                answer, detail = self._request(step), ""
        except (BrokerError, InconclusiveResponse) as error:
            detail = to_one_line(str(error))
            status = _HTTP_STATUS.search(detail)
            answer = f"refused {status[1]}" if status else "no answer"
        seconds = self.venue.time.monotonic() - began
        self.reporter.report_step(replace(step, answer=answer, seconds=seconds, detail=detail))

    def run(self, steps: Iterable[ProbeStep]) -> None:
        """Execute steps in sequence; stop at an order that does not end when it is cancelled."""
        for step in steps:
            self.execute(step)
            if step.action == "cancel" and not self._end_orders():
                return

    def close(self) -> list[str]:
        """Cancel the open orders of all probes, sell their shares; return what stays open.

        It takes minutes if it has to. No share is sold while an order is open that may sell it,
        too. The result lists all open orders and the position in the symbol.
        """
        with suppress(BrokerError):
            return self.venue.time.retry(CLOSING_DELAYS_SECONDS, self._close)
        return ["unknown orders and shares, because the venue does not answer"]

    def _close(self) -> list[str]:
        bought = self._bought_shares() if self._end_orders() else Decimal(0)
        # Positions can lag behind fills. A person may have sold the shares.
        shares = self._await_shares(bought, MAX_WAIT_SECONDS if bought else 0.0)
        if (quantity := min(bought, shares)) > 0:
            terms = {"side": "sell", "qty": quantity}
            self.execute(ProbeStep("closing sale", "trade", "filled", terms=terms))
            self._end_orders()
            shares = self._await_shares(shares - quantity)
        left = [f"order {name}" for name in self._open_orders()]
        return [*left, f"{shares:f} {self.symbol}"] if shares else left

    def _end_orders(self) -> bool:
        """Cancel the open orders of all probes; wait for minutes, and return whether all ended."""
        time = self.venue.time
        end = time.monotonic() + CLOSING_SECONDS
        while (
            mine := [name for name in self._open_orders() if name.startswith(f"{PROBE_JOB}-")]
        ) and time.monotonic() < end:
            for name in mine:
                with suppress(BrokerError):
                    self.outbox.resolve_order(name)
            time.wait(POLL_SECONDS)
        return not mine

    def _request(self, step: ProbeStep) -> str:
        """Send the request of a step, and return the venue's answer."""
        match step.action:
            case "submit" | "trade":
                return self._post(step)
            case "read":
                return "shown" if self._await_shares(Decimal(1)) == 1 else "not shown"
        placed = self.orders[step.needed]
        match step.action:
            case "repeat":
                sent = (placed.client_order_id,)
                [intent] = self.outbox.book.select_intents("client_order_id = ?", sent)
                self.venue.post(intent, 0.0)
                return "accepted"
            case "replace":
                with self.venue.translate_errors("replacing an order"):
                    terms = {**step.terms, "client_order_id": f"{placed.client_order_id}-replaced"}
                    self.venue.client.patch(f"/orders/{placed.venue_order_id}", terms)
                self.orders[step.needed] = self.venue.refresh_order(placed)
                return "replaced"
            case "cancel":
                self.venue.cancel(placed)
                return self._wait_until_done(placed)

    def _post(self, step: ProbeStep) -> str:
        name = make_order_id(PROBE_JOB, self.venue.time.now(), self.symbol, len(self._intents()))
        terms = {"qty": Decimal(1), "reason": "probe of the venue", **step.terms}
        order = Order(name, self.symbol, reduces=terms["side"] == "sell", **terms)
        placed = self.outbox.post(order)
        shown = OrderEntry.type.read(placed.response) or order.type
        answer = "accepted" if shown == order.type else f"accepted as {shown}"
        if step.action == "trade" or placed.is_done:
            answer = self._wait_until_done(placed)
        if answer.startswith(("accepted", "filled")):
            self.orders[step.name] = placed
        return answer

    def _wait_until_done(self, placed: AlpacaOrder) -> str:
        [last] = self.venue.wait_until_done([placed], MAX_WAIT_SECONDS)
        return self.outbox.record_report(last).status

    def _await_shares(self, expected: Decimal, seconds: float = MAX_WAIT_SECONDS) -> Decimal:
        """Poll the position until it is the expected one, at most for `seconds`; return it."""
        end = self.venue.time.monotonic() + seconds
        while True:
            shares = read_positions(self.venue).get(self.symbol, NO_POSITION).quantity
            if shares == expected or self.venue.time.monotonic() >= end:
                return shares
            self.venue.time.wait(POLL_SECONDS)

    def _intents(self) -> tuple[OrderIntent, ...]:
        """Return the recorded orders of all probes in the symbol."""
        return self.outbox.book.select_intents("job = ? AND symbol = ?", (PROBE_JOB, self.symbol))

    def _bought_shares(self) -> Decimal:
        """Return the quantity that the orders of all probes have bought and not sold."""
        orders = [(each.progress.filled, each.stock_or_crypto_order) for each in self._intents()]
        return sum((filled.copy_sign(order.signed_qty) for filled, order in orders), Decimal(0))

    def _open_orders(self) -> list[str]:
        """Return the ids of open orders: all in the symbol, and those of probes in the journal."""
        recorded = self.outbox.book.select_intents(_OPEN_ORDERS)
        with self.venue.translate_errors("open orders"):
            entries = self.venue.open_order_entries()
            listed = [read_order_id(e) for e in entries if OrderEntry.symbol.read(e) == self.symbol]
        return [*dict.fromkeys([*(each.client_order_id for each in recorded), *listed])]
