"""Price charts of a backtest's report: the price of a symbol with the trades and their reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from operator import attrgetter

import numpy as np
import pandas as pd

from execution.orders.orders import Fill
from foundation.arrays import Array
from foundation.charts import Chart, Series, SeriesForm
from foundation.formatting import count_text, quantity, rounded_price
from marketsimulator.results.order_reasons import short_reasons
from marketsimulator.results.report_charts import CHART_TIMEZONE
from marketsimulator.results.report_tables import QUANTITY_DIGITS
from marketsimulator.run_result import Run, is_trade
from trainingdata.bars import CLOSE, Bars

MAX_PRICE_CHARTS = 24  # symbols with a chart, those with the largest traded value
MAX_TRADES_SHOWN = 800  # trades in all charts of a page, shared equally by the symbols
TIME_STRETCHES = 40  # equal parts of the time between the first and the last trade of a symbol
MAX_PRICE_POINTS = 320  # of the price of a symbol
PRICE_DIGITS = 6  # significant digits of a price in a chart


@dataclass(frozen=True, slots=True)
class Trade:
    """A fill with the position before it.

    fill: the fill.
    before: signed position before the fill, shares or coins.
    """

    fill: Fill
    before: Decimal

    @property
    def is_turn(self) -> bool:
        """Return whether the trade opens, closes or reverses a position."""
        return self.before * (self.before + self.fill.qty) <= 0

    @property
    def value(self) -> float:
        """Return the traded value, USD."""
        return abs(float(self.fill.qty)) * self.fill.price

    @property
    def text(self) -> str:
        """Describe the change of the position, the quantity and the price."""
        after = self.before + self.fill.qty
        side = "long" if (after or self.before) > 0 else "short"
        if not self.before:
            change = f"enter {side}"
        elif not after:
            change = f"exit {side}"
        elif self.before * after < 0:
            change = f"reverse to {side}"
        else:
            change = f"{'add to' if abs(after) > abs(self.before) else 'reduce'} {side}"
        action = "buy" if self.fill.qty > 0 else "sell"
        size = quantity(abs(float(self.fill.qty)), QUANTITY_DIGITS)
        return f"{change}: {action} {size} at {rounded_price(self.fill.price, 2, prefix='$')}"


def price_charts(run: Run, bars: Bars, orders: pd.DataFrame) -> list[tuple[str, Chart]]:
    """Return the price charts by symbol, the symbol with the largest traded value first.

    Each trade that is shown has the reason of its order.

    orders: frame of the run's orders.
    """
    traded = trades_by_symbol(run)
    value = {symbol: sum(trade.value for trade in trades) for symbol, trades in traded.items()}
    symbols = sorted(bars.symbols, key=lambda symbol: value.get(symbol, 0.0), reverse=True)
    begin = run.equity_rows[0].at
    shown = symbols[:MAX_PRICE_CHARTS]
    chosen = {
        symbol: most_telling(traded.get(symbol, []), MAX_TRADES_SHOWN // len(shown))
        for symbol in shown
    }
    names = {trade.fill.client_order_id for trades in chosen.values() for trade in trades}
    reasons = short_reasons(orders[orders["client_order_id"].isin(names)], run.decision_frame())
    charts = []
    for symbol in shown:
        times, values = bars.bars_of_symbol(bars.symbols.index(symbol))
        if not len(times):
            continue
        # The bar that was known at the start is the first price of the run.
        first = max(int(np.searchsorted(times, begin, side="right")) - 1, 0)
        price = Series("price", "first", times[first:], values[first:, CLOSE], digits=PRICE_DIGITS)
        trades = chosen[symbol]
        text = _description(symbol, price.values, traded.get(symbol, []), len(trades))
        series = [price.downsample(MAX_PRICE_POINTS), *_markers(trades, reasons)]
        charts.append((symbol, Chart(text, tuple(series), "usd", CHART_TIMEZONE)))
    return charts


def trades_by_symbol(run: Run) -> dict[str, list[Trade]]:
    """Return the trades of each symbol, in time order; crypto fees and splits are no trades."""
    held = {symbol: met.quantity for symbol, met in run.initial_positions.items()}
    trades: dict[str, list[Trade]] = {}
    for fill in sorted(run.fills, key=attrgetter("at")):
        before = held.get(fill.symbol, Decimal(0))
        held[fill.symbol] = before + fill.qty
        if is_trade(fill):
            trades.setdefault(fill.symbol, []).append(Trade(fill, before))
    return trades


def most_telling(trades: Sequence[Trade], most: int) -> list[Trade]:
    """Return at most `most` trades, in their order: first turns, then others.

    Each stretch of time gives its largest, then its second largest, and so on: an account that
    grows makes its largest trades at its end.
    """
    if len(trades) <= most:
        return list(trades)
    at = np.array([trade.fill.at for trade in trades]).astype(np.int64)
    stretches = ((at - at[0]) * TIME_STRETCHES // max(at[-1] - at[0] + 1, 1)).tolist()
    largest_first = sorted(
        range(len(trades)), key=lambda n: (trades[n].is_turn, trades[n].value), reverse=True
    )
    taken = [0] * TIME_STRETCHES
    places: dict[int, tuple[bool, int]] = {}
    for number in largest_first:
        places[number] = not trades[number].is_turn, taken[stretches[number]]
        taken[stretches[number]] += 1
    chosen = sorted(places, key=lambda number: places[number])[:most]
    return [trades[number] for number in sorted(chosen)]


def _markers(trades: Sequence[Trade], reasons: Mapping[str, str]) -> list[Series]:
    """Return the series of purchases and of sales, each trade with a note."""
    forms: list[tuple[str, str, SeriesForm, list[Trade]]] = [
        ("buys", "second", "up", [trade for trade in trades if trade.fill.qty > 0]),
        ("sells", "third", "down", [trade for trade in trades if trade.fill.qty < 0]),
    ]
    series = []
    for name, colour, form, own in forms:
        if own:
            at = np.array([trade.fill.at for trade in own])
            prices = np.array([trade.fill.price for trade in own])
            notes = [
                ". ".join(filter(None, [trade.text, reasons.get(trade.fill.client_order_id)]))
                for trade in own
            ]
            series.append(Series(name, colour, at, prices, form, notes=notes, digits=PRICE_DIGITS))
    return series


def _description(symbol: str, closes: Array, trades: Sequence[Trade], shown: int) -> str:
    """Describe a chart in words."""
    first, last = (rounded_price(float(close), 2, prefix="$") for close in closes[[0, -1]])
    turns = sum(trade.is_turn for trade in trades)
    text = f"{symbol}: from {first} to {last}, {count_text(len(trades), 'trade')}"
    if trades:
        text += f", {turns:,} of which open, close or reverse a position"
    return f"{text}; {shown:,} are marked" if shown < len(trades) else text
