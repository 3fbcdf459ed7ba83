"""Sections of an account's status page: settled markets, and sizes of orders."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from event_contracts.trading.action_log import ActionRecords, SettledMarket
from event_contracts.trading.fees import FeeRules
from event_contracts.trading.orders import ContractFill
from event_contracts.trading.position_sizes import Episode, SentOrder, build_order_size_report
from event_contracts.trading.venue_orders import to_contract_order
from execution.journal.order_store import ACCEPTED_STATES, OrderIntent, OrderStore
from execution.live.status_page import PageSection
from foundation.formatting import format_count, format_quantity, format_usd
from foundation.page import render_page
from foundation.tables import Cell, Table
from trainingdata.instants import format_utc

MAX_SHOWN_MARKETS = 50
_ACCEPTED_ORDERS_SQL = f"state IN ({', '.join(repr(state) for state in ACCEPTED_STATES)})"
_LATEST_MARKETS_SQL = (
    f"{_ACCEPTED_ORDERS_SQL} AND symbol IN (SELECT symbol FROM intents WHERE {_ACCEPTED_ORDERS_SQL}"
    f" GROUP BY symbol ORDER BY max(rowid) DESC LIMIT {MAX_SHOWN_MARKETS})"
)
SETTLED_MARKET_HEADERS = ("market", "settled, UTC", "result", "held", "paid", "profit")


def build_status_sections(order_store: OrderStore, records: ActionRecords) -> list[PageSection]:
    """Return the status page's sections; each reads the journal when the page is written."""
    return [SettledMarketsSection(records), OrderSizesSection(order_store, records)]


class SettledMarketsSection(PageSection):
    """Section of the status page with the latest settled markets and their payouts."""

    title = "Settled markets"

    def __init__(self, records: ActionRecords) -> None:
        self._records = records

    def body(self) -> str:
        paid = self._records.read_settled_markets(MAX_SHOWN_MARKETS)
        if not paid:
            return ""
        stated = [each.profit for each in paid if each.profit is not None]
        total = format_usd(float(sum(stated)), sign=True)
        markets = format_count(len(stated), "settled market")
        return render_page(
            "event_contracts/settled.html.j2",
            summary=f"{markets} earned {total} after fees, as stated by the venue",
            table=Table(
                "Settled markets",
                SETTLED_MARKET_HEADERS,
                [_build_market_cells(each) for each in paid],
                left_aligned_columns=(1, 2),
            ),
        )


class OrderSizesSection(PageSection):
    """Section of the status page with order sizes and their profits."""

    title = "Sizes of event contracts"

    def __init__(self, order_store: OrderStore, records: ActionRecords) -> None:
        self._book = order_store
        self._records = records

    def body(self) -> str:
        by_market: dict[str, list[OrderIntent]] = {}
        for intent in self._book.select_intents(_LATEST_MARKETS_SQL):
            by_market.setdefault(to_contract_order(intent).market, []).append(intent)
        paid = {each.market: each for each in self._records.read_settled_markets()}
        sizes = build_order_size_report(
            _build_episode(each, paid.get(name)) for name, each in by_market.items()
        )
        if sizes is None:
            return ""
        return render_page(
            "event_contracts/open_sizes.html.j2", sizes=sizes, markets=len(by_market)
        )


def _build_market_cells(paid: SettledMarket) -> tuple[Cell, ...]:
    """Return the cells of a settled market, one for each of `SETTLED_MARKET_HEADERS`."""
    tone = "" if not paid.profit else "good" if paid.profit > 0 else "bad"
    profit = None if paid.profit is None else float(paid.profit)
    return (
        Cell(paid.market),
        Cell(format_utc(paid.at)),
        Cell(_format_result(paid)),
        Cell(_format_position(paid.position)),
        Cell(format_usd(float(paid.payout))),
        Cell(format_usd(profit, sign=True), tone=tone),
    )


def _format_result(paid: SettledMarket) -> str:
    """Return the market's result as text: YES, NO, or another result with the payout of a YES."""
    if paid.result in ("yes", "no"):
        return paid.result.upper()
    pays = f"{format_usd(float(paid.yes_payout), 4)} a YES"
    return f"{paid.result}: {pays}" if paid.result else pays


def _format_position(held: Decimal) -> str:
    if not held:
        return "none"
    return f"{format_quantity(abs(held))} {'YES' if held > 0 else 'NO'}"


def _build_episode(intents: Sequence[OrderIntent], paid: SettledMarket | None) -> Episode:
    """Return a market's orders with their fills, in the sequence in which they were sent.

    The journal does not record the sequence of fills, so that orders are assumed to fill in sending
    order. If this sequence contains a sale beyond the position, all fills are omitted.

    paid: settlement of the market; None before it has settled.
    """
    orders = []
    fills = []
    for intent in intents:
        name, order, filled = (
            intent.client_order_id,
            to_contract_order(intent),
            intent.progress.filled,
        )
        orders.append(SentOrder(name, int(order.count)))
        if filled > 0:
            price = intent.progress.filled_price or order.price
            fee = FeeRules().compute_fee(price, filled, maker=False)
            terms = order.market, order.action, order.side, price, filled
            fills.append(ContractFill(name, *terms, is_maker=False, fee=fee))
    pays = None if paid is None else paid.yes_payout
    try:
        return Episode(tuple(orders), tuple(fills), yes_payout=pays)
    except ValueError:
        return Episode(tuple(orders), ())
