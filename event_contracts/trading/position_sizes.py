"""Sizes of event-contract orders, and the profit that is attributed to each order.

Attribution of profit to orders: contracts are matched first in, first out, within one market and
side. A purchase opens contracts, unless the account holds the other side. Then each of its
contracts first closes the oldest contract of that side, because a pair pays $1. A sale closes the
oldest contracts of its side, and settlement closes the rest. The profit of a closed contract
belongs to the order that opened it:

    profit = proceeds of closing it − cost of opening it

The proceeds are the price of a sale, $1 less the price of the purchase that made the pair, or the
market's payout at settlement. Fees, rounding and rebates of a fill are spread over its contracts in
equal parts: the cost of closing contracts is charged to the orders that opened them. So an order
that only closes has no profit, and profits of all orders of a settled market sum exactly to the
account's profit in it.

    20 YES bought at 0.40 (A), fee 0.34; 8 NO bought at 0.50 (B), fee 0.14; YES comes true
    A: 8 · (1 − 0.50 − 0.40) − 0.14 + 12 · (1 − 0.40) − 0.34 = 0.80 + 7.20 − 0.48 = 7.52; B: none

An order has a profit once every contract that it opened is closed.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from event_contracts.trading.orders import ContractFill, Outcome, opposite_side
from foundation.arrays import Array
from foundation.charts import Chart, Series
from foundation.formatting import (
    NO_VALUE,
    NumberFormatter,
    format_number,
    format_percent,
    format_quantity,
    format_usd,
)
from foundation.tables import Cell, Table, horizontal_bar_shape

MEAN_FORMATTER = partial(format_number, places=1)
RATIO_FORMATTER = partial(format_number, places=3, sign=True)
SIZE_METRIC_FORMATS: tuple[
    tuple[str, str, str, NumberFormatter], ...
] = (  # field, heads of a column and a row, formatter
    ("avg_winning_position_size", "winning size", "mean size of winning orders", MEAN_FORMATTER),
    ("avg_losing_position_size", "losing size", "mean size of losing orders", MEAN_FORMATTER),
    ("size_efficiency", "size, profit", "correlation of size and profit", RATIO_FORMATTER),
    ("max_position_reached", "largest", "largest position, contracts", format_quantity),
    ("size_changes_per_episode", "changes", "changes of size an episode", MEAN_FORMATTER),
)
MIN_CORRELATED_ORDERS = 3  # minimum for a correlation: two points always lie on a line


@dataclass(frozen=True, slots=True)
class SentOrder:
    """An order that was sent, filled or not.

    order_id: id that its fills carry.
    size: contracts, positive.
    """

    order_id: str
    size: int

    def __post_init__(self) -> None:
        if self.size <= 0:
            raise ValueError(f"{self.order_id}: size must be above 0, got {self.size}")


@dataclass(frozen=True, slots=True)
class Episode:
    """Orders and fills in one market, from a flat position until settlement or the present.

    orders: orders in the order in which they were sent.
    fills: fills of the orders, as booked.
    outcome: the winning side; None before settlement.
    yes_payout: settlement value of a YES in USD, as an alternative to an outcome.
    order_profits: profit after fees of each order, USD, in the sequence of `orders`; None for an
        order that opened nothing or has contracts open.
    max_position: maximum contracts of one side held at once; None before the first fill.

    Raises `ValueError` for a fill of an order that was not sent, or a sale beyond the position.
    """

    orders: tuple[SentOrder, ...]
    fills: tuple[ContractFill, ...]
    outcome: Outcome | None = None
    yes_payout: Decimal | None = None
    order_profits: tuple[Fraction | None, ...] = field(init=False, repr=False)
    max_position: Decimal | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sent = {order.order_id for order in self.orders}
        ledger = _Ledger()
        for fill in self.fills:
            if fill.order_id not in sent:
                raise ValueError(f"{fill.order_id}: fill of an unknown order")
            ledger.book_fill(fill)
        if self.outcome is not None:
            ledger.settle(Fraction(self.outcome == "YES"))
        elif self.yes_payout is not None:
            ledger.settle(Fraction(self.yes_payout))
        profits = ledger.profit_by_order_id()
        found = tuple(profits.get(order.order_id) for order in self.orders)
        object.__setattr__(self, "order_profits", found)
        object.__setattr__(self, "max_position", ledger.largest if self.fills else None)

    @property
    def size_changes(self) -> int:
        """Return the number of orders whose size differs from the previous order's size."""
        return sum(one.size != after.size for one, after in pairwise(self.orders))


@dataclass(frozen=True, slots=True)
class PositionSizeMetrics:
    """Sizes of orders and their profits; undefined figures are None.

    position_size_distribution: number of orders sent by their contracts, filled or not.
    avg_winning_position_size: mean contracts of the orders with a profit above zero.
    avg_losing_position_size: mean contracts of the orders with a loss.
    size_efficiency: correlation of the sizes of orders with their profits in USD, −1 … 1; None for
        fewer than three orders with a profit, and if sizes or profits are constant.
    max_position_reached: maximum contracts of one side of a market held at once.
    size_changes_per_episode: mean number of orders per episode whose size differs from that of the
        previous order; None if no order was sent.
    """

    position_size_distribution: Mapping[int, int]
    avg_winning_position_size: float | None
    avg_losing_position_size: float | None
    size_efficiency: float | None
    max_position_reached: float | None
    size_changes_per_episode: float | None

    @classmethod
    def from_episodes(cls, episodes: Iterable[Episode]) -> PositionSizeMetrics:
        episodes = tuple(episodes)
        sizes = Counter(order.size for episode in episodes for order in episode.orders)
        sized = list_sizes_and_profits(episodes)
        largest = [episode.max_position for episode in episodes if episode.max_position is not None]
        changes = [episode.size_changes for episode in episodes]
        return cls(
            position_size_distribution=dict(sorted(sizes.items())),
            avg_winning_position_size=_mean([size for size, profit in sized if profit > 0]),
            avg_losing_position_size=_mean([size for size, profit in sized if profit < 0]),
            size_efficiency=_correlation(sized),
            max_position_reached=float(max(largest)) if largest else None,
            size_changes_per_episode=_mean(changes) if sizes else None,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the metrics as a dictionary for JSON; sizes that serve as keys become text."""
        sizes = {str(size): count for size, count in self.position_size_distribution.items()}
        return {**asdict(self), "position_size_distribution": sizes}

    def build_table(self) -> Table:
        sizes = self.position_size_distribution
        shares = [f"{size}: {count:,}" for size, count in sizes.items()]
        figures = [
            (what, words(getattr(self, name))) for name, _, what, words in SIZE_METRIC_FORMATS
        ]
        rows = [("orders by size", ", ".join(shares) or NO_VALUE), *figures]
        return Table("Sizes", (), rows)


def list_sizes_and_profits(episodes: Iterable[Episode]) -> list[tuple[int, float]]:
    """Return (contracts, profit in USD) of each order with a known profit, in sending order."""
    return [
        (order.size, float(profit))
        for episode in episodes
        for order, profit in zip(episode.orders, episode.order_profits, strict=True)
        if profit is not None
    ]


class _Ledger:
    """Open contracts of one market with the orders that opened them, and the orders' profits."""

    def __init__(self) -> None:
        self.largest = Decimal(0)
        self._profits: dict[str, Fraction] = {}
        # By side: the order, its open contracts, and the cost of each.
        self._lots: dict[Outcome, deque[tuple[str, Decimal, Fraction]]] = {
            "YES": deque(),
            "NO": deque(),
        }

    def book_fill(self, fill: ContractFill) -> None:
        price = Fraction(fill.price)
        each = Fraction(fill.fee) / Fraction(fill.count)
        if fill.action == "SELL":
            left = self._close_contracts(fill.side, fill.count, price - each)
            if left:
                raise ValueError(f"{fill.order_id}: fill sells {left} {fill.side} more than held")
            return
        left = self._close_contracts(opposite_side(fill.side), fill.count, 1 - price - each)
        if left:
            lots = self._lots[fill.side]
            lots.append((fill.order_id, left, price + each))
            self._profits.setdefault(fill.order_id, Fraction(0))
            held = sum((count for _, count, _ in lots), Decimal(0))
            self.largest = max(self.largest, held)

    def settle(self, pays: Fraction) -> None:
        """Close the remaining contracts at settlement.

        pays: settlement value of one YES contract, USD.
        """
        for side, lots in self._lots.items():
            count = sum((count for _, count, _ in lots), Decimal(0))
            self._close_contracts(side, count, pays if side == "YES" else 1 - pays)

    def profit_by_order_id(self) -> dict[str, Fraction]:
        """Return profits in USD by order id, of orders whose opened contracts are all closed."""
        still_open = {name for lots in self._lots.values() for name, _, _ in lots}
        return {name: usd for name, usd in self._profits.items() if name not in still_open}

    def _close_contracts(self, side: Outcome, count: Decimal, brings: Fraction) -> Decimal:
        """Close contracts of a side, oldest first; return how many of `count` were not there.

        brings: proceeds of closing one contract, USD.
        """
        lots = self._lots[side]
        while count and lots:
            name, held, cost = lots.popleft()
            closed = min(held, count)
            self._profits[name] += Fraction(closed) * (brings - cost)
            if held > closed:
                lots.appendleft((name, held - closed, cost))
            count -= closed
        return count


def _mean(values: list[int]) -> float | None:
    return sum(values) / len(values) if values else None


def _correlation(sized: list[tuple[int, float]]) -> float | None:
    if len(sized) < MIN_CORRELATED_ORDERS:
        return None
    sizes, profits = np.array(sized).T
    if np.ptp(sizes) == 0 or np.ptp(profits) == 0:
        return None
    return float(np.corrcoef(sizes, profits)[0, 1])


@dataclass(frozen=True, slots=True)
class OrderSizeReport:
    """Content of a page section on order sizes.

    metrics_table: table with one row per metric.
    size_histogram: histogram of order sizes, the smallest size first.
    profit_chart: chart of size against profit; None if no order has a profit.
    """

    metrics_table: Table
    size_histogram: Table
    profit_chart: Chart | None


def build_order_size_report(episodes: Iterable[Episode]) -> OrderSizeReport | None:
    """Return the page section on order sizes in these episodes; None if no order was sent."""
    episodes = tuple(episodes)
    metrics = PositionSizeMetrics.from_episodes(episodes)
    if not metrics.position_size_distribution:
        return None
    profits = list_sizes_and_profits(episodes)
    plot = _build_profit_scatter(*np.array(profits).T) if profits else None
    return OrderSizeReport(metrics.build_table(), _build_size_histogram(metrics, profits), plot)


def _build_size_histogram(metrics: PositionSizeMetrics, profits: list[tuple[int, float]]) -> Table:
    counts = metrics.position_size_distribution
    rows = []
    for size, count in counts.items():
        earned = [profit for each, profit in profits if each == size]
        rows.append(
            (
                f"{size}",
                f"{count:,}",
                format_percent(count / sum(counts.values()), 1),
                format_usd(float(np.mean(earned)) if earned else None, sign=True),
                Cell(
                    "", drawn_shapes=(horizontal_bar_shape(0, 100 * count / max(counts.values())),)
                ),
            )
        )
    heads = ("contracts", "orders", "share", "mean profit", "")
    return Table("Orders by size", heads, rows)


def _build_profit_scatter(sizes: Array, profits: Array) -> Chart:
    """Return a plot with a point for each order, and the mean profit of each size."""
    each = np.unique(sizes)
    means = np.array([profits[sizes == size].mean() for size in each])
    return Chart(
        f"Profit of {len(profits)} orders by size, from {format_number(profits.min())} to"
        f" {format_number(profits.max())} USD.",
        (
            Series("an order", "second", sizes, profits, "dots").downsample(),
            Series("mean of a size", "first", each, means),
        ),
        "usd",
    )
