"""Orders and positions as clients ask for them: stocks, coins and spreads in one list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from marketsimulator.venue.answers import positions_answer
from marketsimulator.venue.faults import FaultPlan
from marketsimulator.venue.market_data import query_symbols
from marketsimulator.venue.request_values import json_object, whole_number
from marketsimulator.venue.stocks import Venue
from marketsimulator.venue.tickets import Answer, Refused, timestamp
from trainingdata.instants import instant
from trainingdata.instruments import instrument

MOST_ORDERS = 500  # an answer holds

# When an order came, and what writes it in Alpaca's words.
Entry = tuple[str, Callable[[], Answer]]


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """Which orders a list holds.

    status: `open`, `all`, anything else for those that have ended.
    nested: whether the legs of a spread are shown within their order.
    symbols: of the orders; empty for every one.
    side: of the orders; None for both.
    after, until: instants between which they came, as the API writes them; None for no bound.
    """

    status: str
    nested: bool
    symbols: frozenset[str]
    side: str | None
    after: str | None
    until: str | None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> OrderFilter:
        """The filter of a query."""
        after, until = (
            timestamp(instant(query[name], name=name)) if name in query else None
            for name in ("after", "until")
        )
        return cls(
            query.get("status", "open"),
            _is_true(query.get("nested")),
            frozenset(query_symbols(query)),
            query.get("side"),
            after,
            until,
        )

    def admits(self, submitted_at: str, *, is_open: bool) -> bool:
        """Whether an order of this time and state is in the list."""
        if self.status != "all" and is_open != (self.status == "open"):
            return False
        if self.after is not None and submitted_at <= self.after:
            return False
        return self.until is None or submitted_at < self.until


class OrderEntry:
    """Requests for orders and positions, answered by a venue."""

    def __init__(self, venue: Venue, faults: FaultPlan) -> None:
        """faults: what goes wrong on demand, shared with the server."""
        self._venue = venue
        self._faults = faults

    async def submit(self, request: web.Request) -> web.StreamResponse:
        """`POST /v2/orders`."""
        body = await json_object(request)
        if self._faults.take(("reject",), request.method, request.path):
            raise Refused(403, 40310000, "rejected on demand")
        partly = bool(self._faults.take(("partial",), request.method, request.path))
        reject = bool(self._faults.take(("reject_later",), request.method, request.path))
        answer = self._venue.submit(body, partial=partly, reject=reject)
        return web.json_response(self._disguised(answer, request))

    async def change(self, request: web.Request) -> web.StreamResponse:
        """`PATCH /v2/orders/{number}`."""
        body = await json_object(request)
        return web.json_response(self._venue.change(request.match_info["number"], body))

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """`DELETE /v2/orders/{number}`."""
        number = request.match_info["number"]
        spread = self._venue.options.client_order_id_of(number)
        if spread is not None:
            self._venue.options.cancel(spread)
        else:
            self._venue.cancel(number)
        return web.Response(status=204)

    def cancel_all(self, _: web.Request) -> list[Answer]:
        """`DELETE /v2/orders`."""
        open_tickets = [ticket for ticket in self._venue.tickets.values() if ticket.open]
        for ticket in open_tickets:
            self._venue.cancel(ticket.number)
        numbers = [ticket.number for ticket in open_tickets]
        options = self._venue.options
        for name, spread in options.tickets.items():
            if spread.status == "new":
                options.cancel(name)
                numbers.append(str(options.answer(name)["id"]))
        return [{"id": number, "status": 200} for number in numbers]

    def by_client_order_id(self, request: web.Request) -> Answer:
        """`GET /v2/orders:by_client_order_id`."""
        name = request.query.get("client_order_id", "")
        options = self._venue.options
        if options.took(name):
            return self._disguised(options.answer(name, nested=False), request)
        return self._disguised(self._venue.ticket_of_client_id(name).answer(), request)

    def by_number(self, request: web.Request) -> Answer:
        """`GET /v2/orders/{number}`."""
        number = request.match_info["number"]
        options = self._venue.options
        spread = options.client_order_id_of(number)
        if spread is not None:
            nested = _is_true(request.query.get("nested"))
            return self._disguised(options.answer(spread, nested=nested), request)
        return self._disguised(self._venue.ticket_of_number(number).answer(), request)

    def orders(self, request: web.Request) -> list[Answer]:
        """`GET /v2/orders`: newest first unless `direction` is `asc`."""
        query = request.query
        limit = whole_number(query, "limit", 50, 1, MOST_ORDERS)
        order_filter = OrderFilter.of(query)
        entries = [*self._ticket_entries(order_filter), *self._spread_entries(order_filter)]
        entries.sort(key=lambda entry: entry[0])
        if query.get("direction") != "asc":
            entries.reverse()
        return [answer() for _, answer in entries[:limit]]

    def positions(self, _: web.Request) -> list[Answer]:
        """`GET /v2/positions`."""
        return [*positions_answer(self._venue), *self._venue.options.positions()]

    def position(self, request: web.Request) -> Answer:
        """`GET /v2/positions/{symbol}`."""
        symbol = instrument(request.match_info["symbol"]).symbol
        for position in positions_answer(self._venue):
            if position["symbol"] == symbol:
                return position
        raise Refused(404, 40410000, "position does not exist")

    def _ticket_entries(self, order_filter: OrderFilter) -> Iterator[Entry]:
        """Orders of stocks and coins that a filter admits."""
        for ticket in list(self._venue.tickets.values()):
            if order_filter.symbols and ticket.order.symbol not in order_filter.symbols:
                continue
            if order_filter.side not in (None, ticket.order.side):
                continue
            if order_filter.admits(ticket.submitted_at, is_open=ticket.open):
                yield ticket.submitted_at, ticket.answer

    def _spread_entries(self, order_filter: OrderFilter) -> Iterator[Entry]:
        """Orders of several legs that a filter admits."""
        # An order of several legs has no symbol and no side: a filter by either leaves it out.
        if order_filter.symbols or order_filter.side:
            return
        options = self._venue.options
        for name, ticket in options.tickets.items():
            submitted_at = timestamp(ticket.submitted_at)
            if order_filter.admits(submitted_at, is_open=ticket.status == "new"):
                yield submitted_at, partial(options.answer, name, nested=order_filter.nested)

    def _disguised(self, answer: Answer, request: web.Request) -> Answer:
        """An order, in another state than its own on demand."""
        fault = self._faults.take(("state",), request.method, request.path)
        return answer if fault is None else {**answer, "status": fault.state}


def _is_true(word: str | None) -> bool:
    return word in ("true", "True")
