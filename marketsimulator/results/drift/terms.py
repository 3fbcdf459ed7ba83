"""Difference between the profits of two accounts over the same period, split into named terms.

With marks m at the end and m0 at the start, the profit of an account is exactly

    P/L = sum q0 (m - m0) + sum over trades (Q m - V) + sum over flows (usd + q m) + unlisted

q0: quantity at the start.
Q, V: signed quantity of a trade, and its signed cost in USD.
usd, q: changes of cash and of a position by a flow, such as a fee, a dividend or a split.
unlisted: part of the profit reported by the account that the other terms do not explain.

The difference of two such sums is split by trade, by flow and by marks. Numbers are fractions,
because a mean price is rarely a finite decimal. Only `round_terms_to_cents` rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Literal, get_args

import numpy as np

from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.orders import Fill, Order, parse_order_prefix
from foundation.decimals import ZERO_FRACTION, round_parts_to_cents, to_cents, to_fraction
from marketsimulator.results.journal_record import ExactAccount, trade_id_without_order
from marketsimulator.run_result import BookingKind, Run, is_trade

ProfitComponent = Literal[
    "undecided",
    "unsent",
    "unfilled",
    "decided",
    "without_decision",
    "prices",
    "fees",
    "interest",
    "dividends",
    "other",
    "not_simulated",
    "unexplained",
    "marking",
]
COMPONENT_MEANINGS: Mapping[ProfitComponent, str] = {
    "undecided": "cycles without a decision: missed, halted, failed or late",
    "unsent": "orders denied or not received",
    "unfilled": "orders filled partly or not at all",
    "decided": "decisions that differ",
    "without_decision": "trades without a decision: manual, by the broker, trims before the close",
    "prices": "fill prices",
    "fees": "fees, in USD and in crypto",
    "interest": "interest",
    "dividends": "dividends",
    "other": "splits and other activities",
    "not_simulated": "symbols that are not simulated",
    "unexplained": "equity that no listed activity explains",
    "marking": "initial positions and valuation prices",
}
PROFIT_COMPONENTS: tuple[ProfitComponent, ...] = get_args(ProfitComponent)
LIQUIDATION_ORDER_PREFIX = "liquidation"
# Spread and slippage are in the prices of fills.
_COMPONENT_BY_BOOKING_KIND: Mapping[BookingKind, ProfitComponent] = {
    "rounding": "fees",
    "interest": "interest",
    "cash_interest": "interest",
    "dividend": "dividends",
    **dict.fromkeys(("split", "borrow", "other"), "other"),
}
_NON_FEE_FILL_PREFIXES = (
    "split",
    "option",
    "share_transfer",
    "other",
    "delisted",
)  # fills that are not crypto fees


@dataclass(frozen=True, slots=True)
class Trade:
    """An order with its fills, or a trade without an order.

    symbol: symbol of the order.
    quantity: signed filled quantity.
    traded_value: sum of signed quantity times price over the fills, USD.
    ordered_quantity: signed quantity of the order; 0 for a trade without an order.
    first_fill_at: instant of the first fill; None without a fill.
    """

    symbol: str
    quantity: Fraction = ZERO_FRACTION
    traded_value: Fraction = ZERO_FRACTION
    ordered_quantity: Fraction = ZERO_FRACTION
    first_fill_at: np.datetime64 | None = None

    @property
    def mean_price(self) -> Fraction | None:
        """Return the mean fill price, USD; None without a fill."""
        return self.traded_value / self.quantity if self.quantity else None

    def add_fill(self, quantity: Fraction, price: Fraction, at: np.datetime64) -> Trade:
        first = at if self.first_fill_at is None else min(self.first_fill_at, at)
        value = self.traded_value + quantity * price
        return replace(
            self, quantity=self.quantity + quantity, traded_value=value, first_fill_at=first
        )


@dataclass(frozen=True, slots=True)
class CashFlow:
    """A cash flow or a change of position that contributes to a profit.

    component: profit term to which the flow belongs.
    usd: signed change of cash; for an initial position minus its value.
    symbol: symbol whose position changes; empty for none.
    quantity: signed change of the position.
    """

    component: ProfitComponent
    usd: Fraction
    symbol: str = ""
    quantity: Fraction = ZERO_FRACTION

    def profit_contribution(self, marks: Mapping[str, Fraction]) -> Fraction:
        """Return the flow's contribution to profit, USD; positions without a mark count as 0."""
        return self.usd + self.quantity * marks.get(self.symbol, ZERO_FRACTION)


@dataclass(frozen=True, slots=True)
class ComparedAccount:
    """One of the two compared accounts: positions, marks, trades and cash flows, in USD.

    start_positions: signed positions at the start, by symbol.
    start_marks, end_marks: prices at which this account values positions, by symbol.
    start_equity, end_equity: equity that the account reports.
    trades: orders, filled or not, and trades without an order, by id.
    cash_flows: all changes of cash or positions other than trades.
    transfers: deposits less withdrawals, which are not profit.
    """

    start_positions: Mapping[str, Fraction]
    start_marks: Mapping[str, Fraction]
    end_marks: Mapping[str, Fraction]
    start_equity: Fraction
    end_equity: Fraction
    trades: Mapping[str, Trade]
    cash_flows: tuple[CashFlow, ...] = ()
    transfers: Fraction = ZERO_FRACTION

    @property
    def profit(self) -> Fraction:
        """Return the change of equity less net deposits, USD."""
        return self.end_equity - self.start_equity - self.transfers

    def all_cash_flows(self, causes: Mapping[str, ProfitComponent]) -> list[CashFlow]:
        """Return initial positions, trades and other flows of the account, all as flows.

        causes: profit term of each trade, by order id; `decided` by default.
        """
        return [
            *(
                CashFlow(
                    "marking", -held * self.start_marks.get(symbol, ZERO_FRACTION), symbol, held
                )
                for symbol, held in self.start_positions.items()
            ),
            *(
                CashFlow(
                    causes.get(name, "decided"), -trade.traded_value, trade.symbol, trade.quantity
                )
                for name, trade in self.trades.items()
            ),
            *self.cash_flows,
        ]

    def unexplained_profit(self) -> Fraction:
        """Return the part of the reported profit that no position, trade or flow explains, USD."""
        return self.profit - sum(
            (flow.profit_contribution(self.end_marks) for flow in self.all_cash_flows({})),
            ZERO_FRACTION,
        )


def to_exact_account(account: AccountSnapshot) -> ExactAccount:
    """Convert a snapshot of a simulated account to exact numbers."""
    prices = {symbol: to_fraction(price) for symbol, price in account.prices.items()}
    positions = {symbol: to_fraction(held) for symbol, held in account.positions.items()}
    worth = (held * prices[symbol] for symbol, held in positions.items())
    equity = to_fraction(account.cash) + sum(worth, ZERO_FRACTION)
    return ExactAccount(account.as_of, equity, positions, prices)


def build_compared_account(
    run: Run,
    start: ExactAccount,
    end: ExactAccount,
    orders: Iterable[Order],
    marks: Mapping[str, Fraction] | None = None,
    transfers: Fraction = ZERO_FRACTION,
) -> ComparedAccount:
    """Build one account of the comparison from a run and its first and last account snapshot.

    orders: orders planned between the snapshots.
    marks: end prices of symbols without a price in the last snapshot, such as closed positions.
    transfers: deposits less withdrawals between the snapshots, USD.
    """
    trades = {
        order.client_order_id: Trade(order.symbol, ordered_quantity=to_fraction(order.signed_qty))
        for order in orders
    }
    flows = [CashFlow("fees", -to_fraction(row.fees)) for row in run.equity_rows if row.fees]
    for fill in run.fills:
        quantity, price = to_fraction(fill.qty), to_fraction(fill.price)
        if is_trade(fill):
            name = _trade_name(fill)
            trades[name] = trades.get(name, Trade(fill.symbol)).add_fill(quantity, price, fill.at)
        else:
            in_kind = parse_order_prefix(fill.client_order_id) in _NON_FEE_FILL_PREFIXES
            term: ProfitComponent = "other" if in_kind else "fees"
            flows.append(CashFlow(term, -quantity * price, fill.symbol, quantity))
    flows += [
        CashFlow(_COMPONENT_BY_BOOKING_KIND[booking.kind], to_fraction(booking.usd))
        for booking in run.bookings
        if booking.kind in _COMPONENT_BY_BOOKING_KIND
    ]
    return ComparedAccount(
        start_positions=start.positions,
        start_marks=start.prices,
        end_marks={**(marks or {}), **end.prices},
        start_equity=start.equity,
        end_equity=end.equity,
        trades=trades,
        cash_flows=tuple(flows),
        transfers=transfers,
    )


def _trade_name(fill: Fill) -> str:
    """Return the identifier of a fill's trade: its order id.

    A simulated liquidation gets the identifier of a live trade without an order, so that the two
    can be compared.
    """
    name = fill.client_order_id
    return (
        trade_id_without_order(fill.symbol, fill.booked_at)
        if parse_order_prefix(name) == LIQUIDATION_ORDER_PREFIX
        else name
    )


def compare_profits(
    live: ComparedAccount, simulated: ComparedAccount, causes: Mapping[str, ProfitComponent]
) -> dict[ProfitComponent, Fraction]:
    """Return live profit less simulated profit by term, USD.

    causes: term for a difference in filled quantity, by order id; `decided` by default. A
        difference in fill price always counts as `prices`.

    The terms add up exactly to the difference of the profits. All profit in symbols without a mark
    in the simulated account counts as `not_simulated`.
    """
    terms = dict.fromkeys(PROFIT_COMPONENTS, ZERO_FRACTION)
    known = simulated.end_marks
    for side, sign in ((live, 1), (simulated, -1)):
        for flow in side.all_cash_flows(causes):
            if flow.symbol and flow.symbol not in known:
                terms["not_simulated"] += sign * flow.profit_contribution(side.end_marks)
                continue
            terms[flow.component] += sign * flow.profit_contribution(known)
            # The flow's position is held to the end, where the two accounts mark it differently.
            terms["marking"] += sign * (
                flow.profit_contribution(side.end_marks) - flow.profit_contribution(known)
            )
        terms["unexplained"] += sign * side.unexplained_profit()
    for name in live.trades.keys() & simulated.trades.keys():
        mine, other = live.trades[name], simulated.trades[name]
        if mine.symbol == other.symbol and mine.quantity and other.mean_price is not None:
            # Differences in quantity count at the simulated price; the rest is the fill price.
            worse = mine.quantity * other.mean_price - mine.traded_value
            terms["prices"] += worse
            terms[causes.get(name, "decided")] -= worse
    return terms


def round_terms_to_cents(
    terms: Mapping[ProfitComponent, Fraction],
) -> dict[ProfitComponent, Decimal]:
    """Round the terms to cents so that they add up to the rounded total."""
    return round_parts_to_cents(terms, to_cents(sum(terms.values(), ZERO_FRACTION)))
