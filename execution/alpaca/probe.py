"""Probe of a venue: its responses to one-share orders on a paper account, and their latencies.

Each step states the response of the practice venue (`marketsimulator.alpaca_server`), which
responds at once. A different or later response is a deviation. Many deviations correspond to a
fault that makes the practice venue respond like the real venue.

Every order is recorded in the account's journal before it is sent, is valid for one session, and
has an id that begins with `probe-`. `VenueProbe.close` cancels the open orders of all probes in
the journal, including killed probes. Then it sells the shares that these orders have bought.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Literal

import numpy as np

from execution.alpaca.account import read_order_id
from execution.alpaca.fields import OrderEntry
from execution.alpaca.holdings import read_positions
from execution.alpaca.order_venue import OrderVenue
from execution.alpaca.placed_order import AlpacaOrder
from execution.brokers import NO_POSITION
from execution.journal.outbox import InconclusiveResponse, Outbox
from execution.orders.auctions import auction_refusal_reason
from execution.orders.orders import Order, make_order_id
from foundation.errors import BrokerError, to_one_line
from foundation.settings import setting, settings_class

ProbeAction = Literal["submit", "trade", "repeat", "replace", "cancel", "read"]

PROBE_JOB = "probe"  # job of the orders in the journal, and prefix of their ids
MAX_PROMPT_SECONDS = 2.0  # longest latency of a response that counts as immediate
MAX_WAIT_SECONDS = 60.0  # longest wait for the end of a step
POLL_SECONDS = 0.25  # seconds between two readings of the account
CLOSING_SECONDS = 300.0  # longest wait until all cancelled orders have ended
CLOSING_POLL_SECONDS = 2.0  # seconds between two attempts to cancel
CLOSING_DELAYS_SECONDS = (0.0, 5.0, 15.0, 60.0)  # seconds before each attempt of `VenueProbe.close`
ALL_REQUESTS = 1_000_000  # count of a fault that affects all requests
MAX_PRICE_RATIO = 1.2  # highest price of an order, multiples of the last trade
# Method and path of the request of an action, and the kind of fault that delays its effect.
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
    """One request of the probe, and the venue's response.

    name: name of the step.
    action: kind of the request.
    assumed: responses of the practice venue, separated by ` or `.
    needed: step whose order must be open, or for the purchase filled; empty: no such step.
    terms: terms of the order.
    answer: the venue's response: `accepted`, an order status, `shown`, `not shown`, `refused` with
        the HTTP status, or `no answer`; empty if the step was skipped.
    seconds: seconds from the request to the response.
    detail: the venue's message, or the reason for which the step was skipped.
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
    def deviates(self) -> bool:
        is_assumed = (
            self.answer in self.assumed.split(" or ") and self.seconds <= MAX_PROMPT_SECONDS
        )
        return bool(self.answer) and not is_assumed

    @property
    def fault(self) -> Mapping[str, Any] | None:
        """Fault that makes the practice venue respond alike; None if there is no such fault."""
        filters = {key: self.terms[key] for key in ("side", "type") if key in self.terms}
        effect: dict[str, Any] = {}
        if self.answer.startswith("refused"):
            status = int(self.answer[-3:])
            # A server error is a failure of one request; any other status is a rule.
            count = 1 if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ALL_REQUESTS
            effect = {"kind": "status", "status": status, "count": count}
        elif self.answer.startswith("accepted as"):
            effect = {"kind": "converted_stop"}
        elif self.seconds > MAX_PROMPT_SECONDS:
            has_ended = self.action != "cancel" or self.answer == self.assumed
            effect = {"seconds": round(self.seconds, 3) if has_ended else None}
        fault = {"count": ALL_REQUESTS, **filters, **_FAULT_TERMS.get(self.action, {}), **effect}
        return fault if self.deviates and effect and "kind" in fault else None

    def __str__(self) -> str:
        found = f"{self.answer} after {self.seconds:.2f} s, assumed: {self.assumed} at once"
        sent = " ".join(map(str, self.terms.values()))
        return "; ".join(filter(None, (sent, found if self.answer else "skipped", self.detail)))


def plan_steps(price: float, at: np.datetime64) -> tuple[ProbeStep, ...]:
    """Return the steps of a probe, in sequence.

    Limit and stop prices are so far from the market that these orders do not trade.

    price: price of the stock's last trade, USD.
    at: time of the venue's clock; it determines whether the opening auction accepts orders.
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


@dataclass(slots=True)
class VenueProbe:
    """Probe of a venue with orders for one share of a stock.

    venue: connection to the venue.
    outbox: sender of the orders, with the account's journal.
    symbol: the stock; no order or position in it may exist.
    report: function that is called with each completed step.
    is_open: true if the exchange is open; if it is closed, no order that should trade is sent.
    orders: orders that were accepted or filled, by the name of their step.
    """

    venue: OrderVenue
    outbox: Outbox[AlpacaOrder]
    symbol: str
    report: Callable[[ProbeStep], object]
    is_open: bool
    orders: dict[str, AlpacaOrder] = field(default_factory=dict)

    def execute(self, step: ProbeStep) -> None:
        """Send the request of a step, measure the response, and report the step."""
        requests: Mapping[str, Callable[[ProbeStep], str]] = {
            "read": lambda _: self._poll_until(lambda: self._held_shares() == 1),
            "cancel": self._cancel,
            "repeat": self._resend,
            "replace": self._replace,
        }
        began = self.venue.time.monotonic()
        answer, detail = "", f"needs {step.needed or 'an open exchange'}"
        try:
            if step.needed in ("", *self.orders) and (self.is_open or step.action != "trade"):
                answer, detail = requests.get(step.action, self._post)(step), ""
        except (BrokerError, InconclusiveResponse) as error:
            detail = to_one_line(str(error))
            status = _HTTP_STATUS.search(detail)
            answer = f"refused {status[1]}" if status else "no answer"
        seconds = self.venue.time.monotonic() - began
        self.report(replace(step, answer=answer, seconds=seconds, detail=detail))

    def run(self, steps: Iterable[ProbeStep]) -> None:
        """Execute steps in sequence; stop if a cancelled order does not end."""
        for step in steps:
            self.execute(step)
            if step.action == "cancel" and not self._cancel_probe_orders():
                return

    def close(self) -> list[str]:
        """Cancel the open orders of all probes and sell their shares; return what stays open.

        The call can take minutes. No share is sold while an open order may still sell it. The
        result lists all open orders and the position in the symbol.
        """
        with suppress(BrokerError):
            return self.venue.time.retry(CLOSING_DELAYS_SECONDS, self._close)
        return ["unknown orders and shares, because the venue does not answer"]

    def _close(self) -> list[str]:
        bought = self._bought_shares() if self._cancel_probe_orders() else Decimal(0)
        # Positions can lag behind fills, or a person may have sold the shares.
        self._poll_until(lambda: self._held_shares() >= bought)
        if (quantity := min(bought, self._held_shares())) > 0:
            terms = {"side": "sell", "qty": quantity}
            self.execute(ProbeStep("closing sale", "trade", "filled", terms=terms))
            self._poll_until(lambda: not self._held_shares())
        shares = [f"{shares:f} {self.symbol}"] if (shares := self._held_shares()) else []
        return [*(f"order {name}" for name in self._open_orders()), *shares]

    def _cancel_probe_orders(self) -> bool:
        """Cancel the open orders of all probes, wait, and return whether all have ended."""
        time = self.venue.time
        end = time.monotonic() + CLOSING_SECONDS
        while mine := [
            order for name, order in self._open_orders().items() if name.startswith(f"{PROBE_JOB}-")
        ]:
            if time.monotonic() >= end:
                return False
            for order in filter(None, mine):
                with suppress(BrokerError):
                    self.venue.cancel(order)
            time.wait(CLOSING_POLL_SECONDS)
        return True

    def _post(self, step: ProbeStep) -> str:
        leg = len(self.outbox.book.select_intents("job = ?", (PROBE_JOB,)))
        name = make_order_id(PROBE_JOB, self.venue.time.now(), self.symbol, leg)
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

    def _resend(self, step: ProbeStep) -> str:
        """Send an order a second time under the same id."""
        condition, placed = "client_order_id = ?", self.orders[step.needed]
        [intent] = self.outbox.book.select_intents(condition, (placed.client_order_id,))
        self.venue.post(intent, 0.0)
        return "accepted"

    def _replace(self, step: ProbeStep) -> str:
        placed = self.orders[step.needed]
        with self.venue.translate_errors("replacing an order"):
            terms = {**step.terms, "client_order_id": f"{placed.client_order_id}-replaced"}
            self.venue.client.patch(f"/orders/{placed.venue_order_id}", terms)
        self.orders[step.needed] = self.venue.refresh_order(placed)
        return "replaced"

    def _cancel(self, step: ProbeStep) -> str:
        self.venue.cancel(self.orders[step.needed])
        return self._wait_until_done(self.orders[step.needed])

    def _wait_until_done(self, placed: AlpacaOrder) -> str:
        [last] = self.venue.wait_until_done([placed], MAX_WAIT_SECONDS)
        return self.outbox.record_report(last).status

    def _poll_until(self, is_shown: Callable[[], bool]) -> str:
        """Poll until a condition holds; return `shown`, or `not shown` after a minute."""
        end = self.venue.time.monotonic() + MAX_WAIT_SECONDS
        while not (holds := is_shown()) and self.venue.time.monotonic() < end:
            self.venue.time.wait(POLL_SECONDS)
        return "shown" if holds else "not shown"

    def _bought_shares(self) -> Decimal:
        """Return the shares that the orders of all probes have bought, less those sold."""
        condition = "job = ? AND symbol = ?"
        intents = self.outbox.book.select_intents(condition, (PROBE_JOB, self.symbol))
        orders = [(each.progress.filled, each.stock_or_crypto_order) for each in intents]
        return sum((filled.copy_sign(order.signed_qty) for filled, order in orders), Decimal(0))

    def _held_shares(self) -> Decimal:
        return read_positions(self.venue).get(self.symbol, NO_POSITION).quantity

    def _open_orders(self) -> dict[str, AlpacaOrder | None]:
        """Return by id all open orders in the symbol, and the open orders of probes.

        The value is None for an order of a probe that the venue does not list.
        """
        book = self.outbox.book
        self.outbox.refresh_intents(book.select_intents(_OPEN_ORDERS))
        recorded = {each.client_order_id: None for each in book.select_intents(_OPEN_ORDERS)}
        with self.venue.translate_errors("open orders"):
            entries = self.venue.open_order_entries()
            listed = [e for e in entries if OrderEntry.symbol.read(e) == self.symbol]
        return {**recorded, **{read_order_id(each): AlpacaOrder(each) for each in listed}}
