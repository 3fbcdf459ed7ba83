"""The practice venue's answers about the account: balance, positions, fills and settlements.

Settlements follow production (three public repositories, 2026), not the documents: a position that
was closed early lists the purchases of both sides. Its pairs were paid when they were made, so
`revenue` pays only for the difference of the two counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from event_contracts.simulation.exchange import Exchange, Settlement
from event_contracts.simulation.venue import (
    DATED,
    PAGED,
    SHARD,
    counted,
    dollars,
    event_of,
    is_asked_for,
    is_within,
    milliseconds,
    numbered,
    page,
    terms,
    written,
)
from event_contracts.trading.fees import NOTHING
from event_contracts.trading.orders import PAYOUT, Fill
from event_contracts.trading.venue_orders import book_side, yes_price
from execution.orders.average_cost import average_cost
from foundation.errors import InputError
from marketsimulator.venue.asked import Query, Response, refuse_other_keys

CENTS = 100
COUNT_FILTERS = ("position", "total_traded")


@dataclass(frozen=True, slots=True)
class PositionCost:
    """The cost basis of one market from its fills, at average cost.

    held: contracts, YES above 0 and NO below.
    price: mean entry price, USD of YES; a NO cost 1 − price.
    traded: USD, price times contracts of all fills.
    realized: USD that closed contracts earned, before fees.
    fees: USD.
    tick: the exchange's tick at the last fill.
    yes_bought, no_bought: contracts and USD; a sale of one side buys the other.
    """

    held: Decimal = NOTHING
    price: Decimal = NOTHING
    traded: Decimal = NOTHING
    realized: Decimal = NOTHING
    fees: Decimal = NOTHING
    tick: int = 0
    yes_bought: tuple[Decimal, Decimal] = (NOTHING, NOTHING)
    no_bought: tuple[Decimal, Decimal] = (NOTHING, NOTHING)

    @property
    def exposure(self) -> Decimal:
        """The cost of the position, USD."""
        return abs(self.held) * (self.price if self.held > 0 else PAYOUT - self.price)

    def with_fill(self, fill: Fill) -> PositionCost:
        """Return the cost basis after one more fill."""
        price = yes_price(fill.side, fill.price)
        is_bid = book_side(fill.action, fill.side) == "bid"
        change = fill.count if is_bid else -fill.count
        mean, realized = average_cost(self.held, self.price, change, price)
        (yes, yes_cost), (no, no_cost) = self.yes_bought, self.no_bought
        if is_bid:
            yes, yes_cost = yes + fill.count, yes_cost + fill.count * price
        else:
            no, no_cost = no + fill.count, no_cost + fill.count * (PAYOUT - price)
        return replace(
            self,
            held=self.held + change,
            price=mean,
            traded=self.traded + fill.price * fill.count,
            realized=self.realized + realized,
            fees=self.fees + fill.fee,
            tick=fill.tick,
            yes_bought=(yes, yes_cost),
            no_bought=(no, no_cost),
        )


def position_costs(fills: Iterable[Fill]) -> dict[str, PositionCost]:
    """Return the cost basis of each traded market; fills: in booking order."""
    costs: dict[str, PositionCost] = defaultdict(PositionCost)
    for fill in fills:
        costs[fill.market] = costs[fill.market].with_fill(fill)
    return dict(costs)


def balance(exchange: Exchange, query: Query) -> Response:
    """`GET /portfolio/balance`; cash of resting orders is still in it."""
    refuse_other_keys(query, "subaccount", "exchange_index")
    cash = exchange.cash
    return {
        "balance": int(cash * CENTS // 1),
        "balance_dollars": dollars(cash),
        "portfolio_value": int(exchange.position_value * CENTS // 1),
        "updated_ts": milliseconds(exchange.now) // 1000,
        "balance_breakdown": [{"exchange_index": SHARD, "balance": dollars(cash)}],
    }


def positions(exchange: Exchange, query: Query) -> Response:
    """`GET /portfolio/positions`: traded markets that have not paid, and their events."""
    refuse_other_keys(query, *PAGED, "ticker", "event_ticker", "count_filter", "subaccount")
    counted_by = _filter_names(query.get("count_filter", ""))
    paid = {settlement.market for settlement in exchange.payments}
    costs = position_costs(exchange.fills)
    rows = {}
    for number, ticker in numbered(exchange.listings):
        event = event_of(exchange.listings[ticker])
        is_named = is_asked_for(query, ticker=ticker, event_ticker=event, subaccount="0")
        if not is_named or ticker not in costs or ticker in paid:
            continue
        amounts = {"position": exchange.position(ticker), "total_traded": costs[ticker].traded}
        if not counted_by or any(amounts[name] for name in counted_by):
            rows[number] = _position(exchange, ticker, costs[ticker])
    shown = page("market_positions", rows, query)
    events = dict.fromkeys(
        event_of(exchange.listings[row["ticker"]]) for row in shown["market_positions"]
    )
    return {**shown, "event_positions": [_event_position(exchange, e, costs) for e in events]}


def _filter_names(text: str) -> tuple[str, ...]:
    """Parse `count_filter`: in each listed row, one of the named amounts is not 0."""
    names = tuple(name for name in text.split(",") if name)
    if other := set(names) - set(COUNT_FILTERS):
        raise InputError(f"count_filter: {min(other)} is not one of {', '.join(COUNT_FILTERS)}")
    return names


def _position(exchange: Exchange, ticker: str, cost: PositionCost) -> Response:
    return {
        "ticker": ticker,
        "exchange_index": SHARD,
        "total_traded_dollars": dollars(cost.traded),
        # In a closed market that has not paid: the contracts it will pay for.
        "position_fp": counted(exchange.position(ticker)),
        "market_exposure_dollars": dollars(cost.exposure),
        "realized_pnl_dollars": dollars(cost.realized),
        "fees_paid_dollars": dollars(cost.fees),
        "last_updated_ts": written(exchange.at(cost.tick)),
    }


def _event_position(exchange: Exchange, event: str, costs: dict[str, PositionCost]) -> Response:
    ours = [costs[name] for name in costs if event_of(exchange.listings[name]) == event]

    def total(name: str) -> str:
        return dollars(sum((getattr(each, name) for each in ours), NOTHING))

    return {
        "event_ticker": event,
        "total_cost_dollars": total("traded"),
        "total_cost_shares_fp": counted(
            sum((each.yes_bought[0] + each.no_bought[0] for each in ours), NOTHING)
        ),
        "event_exposure_dollars": total("exposure"),
        "realized_pnl_dollars": total("realized"),
        "fees_paid_dollars": total("fees"),
    }


def fills(exchange: Exchange, query: Query, hidden: int = 0) -> Response:
    """`GET /portfolio/fills`; hidden: number of newest fills left out."""
    refuse_other_keys(query, *PAGED, *DATED, "ticker", "order_id", "subaccount")
    rows = {
        number: _fill(exchange, number, fill)
        for number, fill in numbered(exchange.fills, hidden)
        if is_asked_for(query, ticker=fill.market, order_id=fill.order_id, subaccount="0")
        and is_within(query, exchange.at(fill.tick))
    }
    return page("fills", rows, query)


def _fill(exchange: Exchange, number: int, fill: Fill) -> Response:
    at = exchange.at(fill.tick)
    name = f"trade-{number:06d}"
    return {
        "fill_id": name,
        "trade_id": name,
        "order_id": fill.order_id,
        **terms(fill),
        "market_ticker": fill.market,
        "exchange_index": SHARD,
        "count_fp": counted(fill.count),
        "is_taker": not fill.maker,
        "fee_cost": dollars(fill.fee),
        "created_time": written(at),
        "ts": milliseconds(at) // 1000,
        "subaccount_number": 0,
    }


def settlements(exchange: Exchange, query: Query) -> Response:
    """`GET /portfolio/settlements`: traded markets that have paid."""
    refuse_other_keys(query, *PAGED, *DATED, "ticker", "event_ticker", "subaccount")
    costs = position_costs(exchange.fills)
    rows = {}
    for number, settlement in numbered(exchange.payments):
        ticker = settlement.market
        event = event_of(exchange.listings[ticker])
        is_listed = ticker in costs and is_within(query, exchange.at(settlement.pays))
        if is_listed and is_asked_for(query, ticker=ticker, event_ticker=event, subaccount="0"):
            rows[number] = _settlement(exchange, settlement, costs[ticker])
    return page("settlements", rows, query)


def _settlement(exchange: Exchange, settlement: Settlement, cost: PositionCost) -> Response:
    yes, yes_cost = cost.yes_bought
    no, no_cost = cost.no_bought
    return {
        "ticker": settlement.market,
        "exchange_index": SHARD,
        "event_ticker": event_of(exchange.listings[settlement.market]),
        "market_result": settlement.outcome.lower(),
        "yes_count_fp": counted(yes),
        "yes_total_cost_dollars": dollars(yes_cost),
        "no_count_fp": counted(no),
        "no_total_cost_dollars": dollars(no_cost),
        "revenue": int(settlement.payout * CENTS),
        "settled_time": written(exchange.at(settlement.pays)),
        "fee_cost": dollars(cost.fees),
        "value": CENTS if settlement.outcome == "YES" else 0,
    }
