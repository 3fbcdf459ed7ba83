"""Simulated venue for options on one underlying: quotes, multi-leg orders and settlement.

Quotes follow a model; options settle in cash. The maximum loss of all positions is reserved in
cash. Orders that would lead to an unbounded loss are rejected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date
from decimal import Decimal

import numpy as np

from execution.orders.option_orders import (
    SHARES_PER_OPTION,
    OptionContract,
    OptionLeg,
    Quote,
    SpreadOrder,
    max_expiry_loss,
    net_credit,
)
from foundation.errors import OrderRejected
from option_spreads.selling.rules import (
    TRADING_DAYS,
    default_order_cutoff_minutes,
    order_cutoff_time,
)
from option_spreads.simulation.pricing import compute_bid_and_ask, option_value
from practice.alpaca.spread_tickets import SpreadStatus, SpreadTicket
from practice.alpaca.underlying import Underlying
from practice.settings import OptionTerms
from trainingdata.sessions import session_on, sessions_between

LISTED_EXPIRY_SESSIONS = 10  # number of coming sessions with listed options
# Listed strikes are within this share of the underlying's last price; others are quoted too.
LISTED_STRIKE_RANGE = 0.1
MINUTE = np.timedelta64(1, "m")


class OptionDesk:
    """Simulated quotes, orders and positions of the options of one root.

    root: root of the options' symbols, such as SPXW.
    market: index, volatility index and clock.
    tickets: orders by client_order_id, in the order of their arrival.
    positions: number of contracts by option, negative if short.
    reserved_cash: cash reserved for the maximum loss of the positions, USD.
    """

    def __init__(
        self,
        root: str,
        market: Underlying,
        terms: OptionTerms,
        *,
        free_cash: Callable[[], float] = lambda: float("inf"),
        on_cash_flow: Callable[[Decimal], None] = lambda usd: None,
        on_filled: Callable[[SpreadTicket], None] = lambda ticket: None,
    ) -> None:
        """Build a desk without positions.

        terms: volatility smile and slippage of the quotes.
        free_cash: function that returns the cash that may still be reserved, USD.
        on_cash_flow: callback for each change of free cash, USD, by fills, settlement or reserves.
        on_filled: callback for each order that has filled.
        """
        self.root = root
        self.tickets = dict[str, SpreadTicket]()
        self._working = set[str]()
        self.positions = Counter[OptionContract]()
        self.reserved_cash = Decimal(0)
        self.market = market
        self._terms = terms
        self._free_cash = free_cash
        self._cash_flow = on_cash_flow
        self._filled = on_filled

    def now(self) -> np.datetime64:
        return self.market.now()

    def option_positions(self) -> dict[OptionContract, int]:
        """Return the open positions: number of contracts by option, negative if short."""
        return {contract: count for contract, count in self.positions.items() if count}

    def listed_options(self) -> list[OptionContract]:
        """Return the options of the next ten sessions, with strikes around the last price.

        Strikes are whole points within a tenth of the underlying's last price.
        """
        price = self.market.last_level()
        if price is None:
            return []
        now = self.now()
        today = now.astype("datetime64[D]")
        days = sessions_between(today, today + 3 * LISTED_EXPIRY_SESSIONS)[:LISTED_EXPIRY_SESSIONS]
        strikes = range(
            round(price * (1 - LISTED_STRIKE_RANGE)), round(price * (1 + LISTED_STRIKE_RANGE)) + 1
        )
        contracts = [
            OptionContract(self.root, day.astype(object), call, Decimal(strike))
            for day in days
            for call in (True, False)
            for strike in strikes
            if strike > 0
        ]
        return [contract for contract in contracts if not contract.has_expired(now)]

    def quotes(self, contracts: Iterable[OptionContract]) -> dict[OptionContract, Quote]:
        """Return quotes of these options, except for those that do not trade or have expired.

        Outside the session no option has a quote.
        """
        requested = list(contracts)
        if not requested:
            return {}
        index = self.market.index_level()
        vix = self.market.volatility_index()
        if index is None or vix is None:
            return {}
        now = self.now()
        quotes = {}
        for contract in requested:
            years = self._variance_years(contract.expiry, now)
            if years is None or contract.root != self.root:
                continue
            strike = float(contract.strike)
            value = option_value(
                strike, index, years, vix, self._terms.smile, call=contract.is_call
            )
            prices = compute_bid_and_ask(value, self._terms.slippage)
            bid, ask = (Decimal(str(round(float(price), 2))) for price in prices)
            quotes[contract] = Quote(bid, ask)
        return quotes

    def submit_order(
        self, order: SpreadOrder, *, partial: bool = False, rejected: bool = False
    ) -> SpreadTicket:
        """Accept an order, and fill it if its limit price is met; return its ticket.

        partial: true to fill half of the order and cancel the rest.
        rejected: true to accept the order first and reject it afterwards.

        Raises OrderRejected if a venue would not accept the order.
        """
        if reason := self._refusal(order):
            raise OrderRejected(reason)
        ticket = SpreadTicket(order, self.now())
        self.tickets[order.client_order_id] = ticket
        self._working.add(order.client_order_id)
        if rejected:
            self._end_order(ticket, "rejected")
            return ticket
        self._match_order(ticket, max(order.contracts // 2, 1) if partial else order.contracts)
        if partial:
            self.cancel(order.client_order_id)
        return ticket

    def cancel(self, client_order_id: str) -> None:
        """Cancel an order if it is still open; ignore an unknown id."""
        ticket = self.tickets.get(client_order_id)
        if ticket is not None and ticket.status == "new":
            self._end_order(ticket, "canceled")

    def advance(self) -> list[tuple[OptionContract, int, Decimal]]:
        """Match or expire open orders, and settle expired options, at the market's present time.

        Return (option, contracts, settlement cash in USD) of each settled option; contracts and
        cash are negative for a short position.
        """
        now = self.now()
        settled = []
        # Multi-leg orders are day orders. They are sorted by name: a set has no order, and a run
        # must be reproducible.
        for ticket in [self.tickets[name] for name in sorted(self._working)]:
            session = session_on(ticket.submitted_at.astype("datetime64[D]"))
            if session is None or now >= session.closes:
                self._end_order(ticket, "expired")
            else:
                self._match_order(ticket, ticket.order.contracts)
        for contract, count in list(self.option_positions().items()):
            session = session_on(np.datetime64(contract.expiry, "D"))
            if session is None or now < session.closes:
                continue
            # The close may become known after the session has ended: the position waits for it.
            index = self.market.index_close(contract.expiry)
            if index is None:
                continue
            strike = float(contract.strike)
            payoff = max(index - strike if contract.is_call else strike - index, 0.0)
            del self.positions[contract]
            cash = Decimal(str(round(payoff, 2))) * count * SHARES_PER_OPTION
            self._book_cash(cash)
            settled.append((contract, count, cash))
        return settled

    def _match_order(self, ticket: SpreadTicket, contracts: int) -> None:
        """Fill a number of contracts of an order if the quotes pay at least its minimum credit."""
        order = ticket.order
        quotes = self.quotes(leg.contract for leg in order.legs)
        credit = net_credit(order.legs, quotes)
        if credit is None or (order.min_credit is not None and credit < order.min_credit):
            return
        self.positions.update(_position_changes(order.legs, contracts))
        ticket.filled_contracts = contracts
        ticket.leg_prices = tuple(
            quotes[leg.contract].price_for_side(leg.side) for leg in order.legs
        )
        self._end_order(ticket, "filled" if contracts == order.contracts else "canceled")
        self._filled(ticket)
        self._book_cash(credit * contracts * SHARES_PER_OPTION)

    def _end_order(self, ticket: SpreadTicket, status: SpreadStatus) -> None:
        ticket.status = status
        ticket.closed_at = self.now()
        self._working.discard(ticket.client_order_id)

    def _book_cash(self, cash: Decimal) -> None:
        """Report the cash of an order or settlement, and update the reserve for maximum losses."""
        needed = max_expiry_loss(self.option_positions()) or Decimal(0)
        self._cash_flow(cash + self.reserved_cash - needed)
        self.reserved_cash = needed

    def _refusal(self, order: SpreadOrder) -> str:
        """Return the reason to reject an order, or an empty string."""
        if order.client_order_id in self.tickets:
            return "client_order_id must be unique"
        quotes = self.quotes(leg.contract for leg in order.legs)
        if absent := [leg.contract.symbol for leg in order.legs if leg.contract not in quotes]:
            return f"{absent[0]} has no quote at this time"
        if expiring := [leg.contract for leg in order.legs if self._is_past_cutoff(leg.contract)]:
            return f"{expiring[0].symbol} expires today and no longer accepts orders"
        # The loss is that of all positions together: two orders may cover each other.
        after = Counter(self.option_positions())
        after.update(_position_changes(order.legs, order.contracts))
        loss = max_expiry_loss(after)
        if loss is None:
            return "the order would leave a short option uncovered"
        proceeds = (
            (net_credit(order.legs, quotes) or Decimal(0)) * order.contracts * SHARES_PER_OPTION
        )
        needed = loss - self.reserved_cash - proceeds
        # An order that raises no loss is accepted without free cash: positions can be closed.
        if loss > self.reserved_cash and float(needed) > self._free_cash():
            return (
                f"insufficient options buying power: required ${needed}, available"
                f" ${self._free_cash():.2f}"
            )
        return ""

    def _is_past_cutoff(self, contract: OptionContract) -> bool:
        """Return whether an option's order cutoff, which is on its expiry day, has passed."""
        session = session_on(np.datetime64(contract.expiry, "D"))
        return session is not None and bool(
            self.now() >= order_cutoff_time(session, default_order_cutoff_minutes(contract.root))
        )

    def _variance_years(self, expiry: date, now: np.datetime64) -> float | None:
        """Return the time to an expiry's close in years; None if options of it do not trade now.

        Years count variance: the remaining minutes of today count by their share of a day's
        variance, and every later session as one day.
        """
        last = session_on(np.datetime64(expiry, "D"))
        today = now.astype("datetime64[D]")
        if last is None or now >= last.closes:
            return None
        days = sessions_between(today, last.date)
        first = session_on(days[0])
        if (
            first is None
            or len(days) > LISTED_EXPIRY_SESSIONS
            or not first.opens <= now < first.closes
        ):
            return None
        rest_of_today = self._terms.smile.remaining_variance_days(
            float((first.closes - now) / MINUTE)
        )
        return (rest_of_today + len(days) - 1) / TRADING_DAYS


def _position_changes(legs: Iterable[OptionLeg], contracts: int) -> dict[OptionContract, int]:
    return {leg.contract: leg.direction * contracts for leg in legs}
