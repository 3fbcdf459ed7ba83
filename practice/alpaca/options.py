"""Options trading of the practice venue: one options desk per underlying, in one account."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np

from execution.orders.option_orders import SHARES_PER_OPTION, OptionContract, parse_occ_symbol
from foundation.errors import InputError, OrderRejected
from marketsimulator.account.broker import SimulatedBroker
from practice.alpaca.entry_prices import DailyEntryPrices
from practice.alpaca.option_desk import OptionDesk
from practice.alpaca.record import VenueRecord
from practice.alpaca.spread_tickets import (
    SpreadTicket,
    closing_price,
    derive_leg_order_id,
    option_position_response,
    parse_spread_order,
    quote_response,
)
from practice.alpaca.tickets import derive_venue_id, format_quantity, format_timestamp
from practice.alpaca.underlying import PriceSource, Underlying
from practice.request import (
    RequestRefused,
    ResponseBody,
    parse_query_choice,
    parse_query_integer,
    refuse_unknown_keys,
)
from practice.settings import OptionTerms
from trainingdata.bars import Bars
from trainingdata.instants import parse_date
from trainingdata.volatility_index import read_volatility_index

MAX_CONTRACTS_LISTED = 10_000  # options in one response


class VenueOptions:
    """Options trading of the venue's account: one desk for each underlying.

    All cash is in the broker's account. Desks withdraw reserves and payments from it, and deposit
    released reserves and receipts into it.

    desks: desks by symbol of the underlying.
    """

    def __init__(
        self,
        record: VenueRecord,
        broker: SimulatedBroker,
        bars: Bars,
        price: PriceSource,
        terms: OptionTerms,
    ) -> None:
        """Create one desk for each underlying; without a volatility index (`terms.vix`) none.

        record: record of the account's orders and activities.
        broker: account that holds the cash.
        bars: bars of the underlyings.
        price: function that returns the present price of a symbol, before costs.
        terms: settings of the options.
        """
        self._record = record
        self.desks: dict[str, OptionDesk] = {}
        self._entries = DailyEntryPrices({})
        self._marks: dict[
            str, float
        ] = {}  # last prices at which positions could be closed, by symbol
        if terms.vix is None:
            return
        vix = read_volatility_index(terms.vix, "options.vix")
        if absent := [symbol for symbol in terms.symbols if symbol not in bars.symbols]:
            raise InputError(
                f"options.symbols: {absent[0]} has no bars; add it to symbols, or remove it"
                " from options.symbols"
            )

        def free_cash() -> float:
            return max(broker.account().unborrowed_cash, 0.0)

        def deposit_cash(usd: Decimal) -> None:
            broker.deposit(float(usd))

        for symbol in terms.symbols:
            market = Underlying(record, bars, price, symbol, vix)
            self.desks[symbol] = OptionDesk(
                symbol,
                market,
                terms,
                free_cash=free_cash,
                on_cash_flow=deposit_cash,
                on_filled=self._record_fill,
            )

    @property
    def reserved_cash(self) -> float:
        """Return the cash reserved for the maximum loss of all positions, USD."""
        return float(sum(desk.reserved_cash for desk in self.desks.values()))

    def advance(self) -> None:
        for desk in self.desks.values():
            for contract, count, cash in desk.advance():
                self._record_expiry(contract, count, cash)
        self._mark_positions()

    def start_day(self) -> None:
        """Start a trading day, and measure its profit from the last marks of the positions."""
        self._entries.start_day(self._marks)

    def listed_options(self) -> list[OptionContract]:
        """Return the options listed at present, on all underlyings."""
        return [contract for desk in self.desks.values() for contract in desk.listed_options()]

    def _mark_positions(self) -> None:
        """Set the mark of each position to the price at which it can be closed now.

        Positions without a quote keep their mark.
        """
        for desk in self.desks.values():
            counts = desk.option_positions()
            for contract, quote in desk.quotes(counts).items():
                self._marks[contract.symbol] = float(closing_price(counts[contract], quote))

    def submit(
        self, request: Mapping[str, Any], *, partial: bool = False, reject: bool = False
    ) -> ResponseBody:
        """Accept a multi-leg order and return it in Alpaca's format.

        partial: true to fill half of the order and cancel the rest.
        reject: true to accept the order and reject it afterwards.
        Raises `RequestRefused` for an order that Alpaca would refuse.
        """
        order = parse_spread_order(request, len(self._record.orders))
        roots = {leg.contract.root for leg in order.legs}
        desk = self.desks.get(roots.pop()) if len(roots) == 1 else None
        if desk is None:
            symbols = ", ".join(self.desks) or "nothing"
            raise RequestRefused(
                422,
                None,
                f"the practice venue only trades options on {symbols}, and all legs of an"
                " order must have the same underlying",
            )
        self._record.refuse_duplicate_order_id(order.client_order_id)
        try:
            ticket = desk.submit_order(order, partial=partial, rejected=reject)
        except OrderRejected as error:
            raise RequestRefused(403, None, str(error)) from None
        self._record.record_order(ticket)
        return ticket.to_response(nested=True)

    def cancel(self, ticket: SpreadTicket) -> None:
        root = ticket.order.legs[0].contract.root
        self.desks[root].cancel(ticket.client_order_id)

    def positions(self) -> list[ResponseBody]:
        """Return the option positions in the format of `GET /v2/positions`."""
        positions = []
        for desk in self.desks.values():
            counts = desk.option_positions()
            quotes = desk.quotes(counts)
            for contract, count in counts.items():
                price = closing_price(count, quotes.get(contract))
                positions.append(option_position_response(contract, count, price, self._entries))
        return positions

    def quotes(self, symbols: Iterable[str], now: np.datetime64) -> dict[str, ResponseBody]:
        """Return the latest quotes by OCC symbol; options without a quote are left out.

        now: time on the clock, which may be between two instants of the panel.
        """
        contracts = [parse_occ_symbol(symbol) for symbol in symbols]
        quotes = {}
        for desk in self.desks.values():
            for contract, quote in desk.quotes(contracts).items():
                quotes[contract.symbol] = quote_response(quote, now)
        return quotes

    def _record_fill(self, ticket: SpreadTicket) -> None:
        """Record the fill of an order as one activity for each leg, in Alpaca's format."""
        contracts = format_quantity(Decimal(ticket.filled_contracts))
        at = max(
            format_timestamp(ticket.closed_at or ticket.submitted_at),
            self._record.current_timestamp,
        )
        for leg, price in zip(ticket.order.legs, ticket.leg_prices, strict=True):
            signed = Decimal(leg.direction * ticket.filled_contracts)
            self._entries.add_fill(leg.contract.symbol, signed, float(price))
            self._record.record_activity(
                {
                    "activity_type": "FILL",
                    "type": "fill",
                    "transaction_time": at,
                    "symbol": leg.contract.symbol,
                    "qty": contracts,
                    "price": str(price),
                    "side": leg.side,
                    "leaves_qty": "0",
                    "cum_qty": contracts,
                    "order_id": derive_leg_order_id(ticket.order.client_order_id, leg),
                    "order_status": ticket.status,
                }
            )

    def _record_expiry(self, contract: OptionContract, count: int, cash: Decimal) -> None:
        """Record the expiry of an option position and its cash settlement, USD."""
        self._entries.add_fill(contract.symbol, Decimal(-count), 0.0)
        self._record.record_activity(
            {
                "activity_type": "OPEXP",
                "date": str(contract.expiry),
                "symbol": contract.symbol,
                "qty": str(-count),
                "price": "0",
                "net_amount": str(cash),
            }
        )


def contracts_response(
    listed: Iterable[OptionContract], now: np.datetime64, query: Mapping[str, str]
) -> ResponseBody:
    """Return the listed options that match a query, sorted by symbol.

    As at Alpaca, a query without an expiration date returns options that expire by next Sunday.

    listed: options listed at present.
    now: time on the clock.
    """
    refuse_unknown_keys(query, "underlying_symbols", "status", "expiration_date", "limit")
    parse_query_choice(query, "status", ("active",))
    limit = parse_query_integer(query, "limit", 100, 1, MAX_CONTRACTS_LISTED)
    symbols = query.get("underlying_symbols", "").split(",")
    today: date = now.astype("datetime64[D]").astype(object)
    last = date.fromordinal(today.toordinal() // 7 * 7 + 7)
    if "expiration_date" in query:
        today = last = parse_date(query["expiration_date"]).astype(object)
    chosen = [
        contract
        for contract in listed
        if (symbols == [""] or contract.root in symbols) and today <= contract.expiry <= last
    ]
    chosen.sort(key=lambda contract: contract.symbol)
    return {
        "option_contracts": [_contract_response(each) for each in chosen[:limit]],
        "next_page_token": None,
    }


def _contract_response(contract: OptionContract) -> ResponseBody:
    kind = "call" if contract.is_call else "put"
    return {
        "id": derive_venue_id(contract.symbol),
        "symbol": contract.symbol,
        "name": f"{contract.root} {contract.expiry:%b %d %Y} {contract.strike:f} {kind.title()}",
        "status": "active",
        "tradable": True,
        "expiration_date": str(contract.expiry),
        "root_symbol": contract.root,
        "underlying_symbol": contract.root,
        "underlying_asset_id": derive_venue_id(contract.root),
        "type": kind,
        "style": "american",
        "strike_price": f"{contract.strike:f}",
        "multiplier": str(SHARES_PER_OPTION),
        "size": str(SHARES_PER_OPTION),
    }
