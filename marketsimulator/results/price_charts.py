"""Price charts of a report: each symbol's price with its trades, their reasons, and stops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from operator import attrgetter

import numpy as np
import pandas as pd

from execution.orders.orders import Fill
from foundation.arrays import Array
from foundation.charts import PRICE_DIGITS, Chart, Series, trade_series
from foundation.formatting import format_count, format_quantity, format_rounded_price
from marketsimulator.results.order_reasons import short_reasons_by_order
from marketsimulator.results.report_tables import QUANTITY_DIGITS
from marketsimulator.results.returns_page import CHART_TIMEZONE
from marketsimulator.run_result import Run, is_trade
from trainingdata.bars import CLOSE, Bars

MAX_PRICE_CHARTS = 24  # symbols with a chart, by traded value
MAX_TRADES_SHOWN = 800  # trades in all charts of a page, an equal number per symbol
TRADE_SELECTION_BINS = (
    40  # equal parts of the time between the first and the last trade of a symbol
)
MAX_PRICE_POINTS = 320  # prices in a chart
MAX_STOP_LEVELS = 120  # stop levels in a chart


@dataclass(frozen=True, slots=True)
class ChartTrade:
    """A fill with the position before it.

    fill: the fill.
    position_before: signed position before the fill, shares or coins.
    """

    fill: Fill
    position_before: Decimal

    @property
    def is_entry_or_exit(self) -> bool:
        """Return whether the trade opens, closes or reverses a position."""
        return self.position_before * (self.position_before + self.fill.qty) <= 0

    @property
    def traded_value(self) -> float:
        """Return the traded value, USD."""
        return abs(float(self.fill.qty)) * self.fill.price

    @property
    def description(self) -> str:
        """Text with the change of the position, the quantity and the price."""
        after = self.position_before + self.fill.qty
        side = "long" if (after or self.position_before) > 0 else "short"
        if not self.position_before:
            change = f"enter {side}"
        elif not after:
            change = f"exit {side}"
        elif self.position_before * after < 0:
            change = f"reverse to {side}"
        else:
            change = f"{'add to' if abs(after) > abs(self.position_before) else 'reduce'} {side}"
        action = "buy" if self.fill.qty > 0 else "sell"
        size = format_quantity(abs(float(self.fill.qty)), QUANTITY_DIGITS)
        return (
            f"{change}: {action} {size} at {format_rounded_price(self.fill.price, 2, prefix='$')}"
        )


def price_charts(run: Run, bars: Bars, orders: pd.DataFrame) -> list[tuple[str, Chart]]:
    """Return the price charts with their symbols, by descending traded value.

    Each marked trade has the reason of its order as a note.

    orders: frame of the orders of the run.
    """
    traded = trades_by_symbol(run)
    value = {
        symbol: sum(trade.traded_value for trade in trades) for symbol, trades in traded.items()
    }
    symbols = sorted(bars.symbols, key=lambda symbol: value.get(symbol, 0.0), reverse=True)
    begin = run.equity_rows[0].at
    shown = symbols[:MAX_PRICE_CHARTS]
    chosen = {
        symbol: select_trades(traded.get(symbol, []), MAX_TRADES_SHOWN // len(shown))
        for symbol in shown
    }
    names = {trade.fill.client_order_id for trades in chosen.values() for trade in trades}
    sent = orders[orders["client_order_id"].isin(names)]
    decisions = run.decision_frame()
    reasons = short_reasons_by_order(sent, decisions)
    sent_at = dict(zip(sent["client_order_id"], sent["at"], strict=True))
    charts = []
    for symbol in shown:
        times, values = bars.bars_of_symbol(bars.symbols.index(symbol))
        if not len(times):
            continue
        # The first price is that of the last bar known at the start of the run.
        first = max(int(np.searchsorted(times, begin, side="right")) - 1, 0)
        price = Series(
            "price", "first", times[first:], values[first:, CLOSE], significant_digits=PRICE_DIGITS
        )
        trades = chosen[symbol]
        symbol_decisions = decisions[decisions["symbol"] == symbol]
        levels, source = _protective_levels(run, symbol), "protective order"
        if levels is None:
            levels, source = symbol_decisions, "decision"
        stops = [stop_series(levels)] if levels["plan_stop_price"].notna().any() else []
        notes = {**reasons, **_exit_reasons(trades, reasons, sent_at, symbol_decisions)}
        text = _description(symbol, price.values, traded.get(symbol, []), len(trades))
        text += _describe_stops(levels["plan_stop_price"].dropna().to_numpy(), source)
        series = [price.downsample(MAX_PRICE_POINTS), *stops, *_markers(trades, notes)]
        charts.append((symbol, Chart(text, tuple(series), "usd", CHART_TIMEZONE)))
    return charts


def trades_by_symbol(run: Run) -> dict[str, list[ChartTrade]]:
    """Return the trades of each symbol in time order, without crypto fees and splits."""
    held = {symbol: position.quantity for symbol, position in run.initial_positions.items()}
    trades: dict[str, list[ChartTrade]] = {}
    for fill in sorted(run.fills, key=attrgetter("at")):
        before = held.get(fill.symbol, Decimal(0))
        held[fill.symbol] = before + fill.qty
        if is_trade(fill):
            trades.setdefault(fill.symbol, []).append(ChartTrade(fill, before))
    return trades


def select_trades(trades: Sequence[ChartTrade], max_trades: int) -> list[ChartTrade]:
    """Return at most `max_trades` trades in time order, entries and exits before others.

    Each time bin contributes its largest trade, then its second largest, and so on, because the
    largest trades of a growing account are the latest.
    """
    if len(trades) <= max_trades:
        return list(trades)
    at = np.array([trade.fill.at for trade in trades]).astype(np.int64)
    bins = ((at - at[0]) * TRADE_SELECTION_BINS // max(at[-1] - at[0] + 1, 1)).tolist()
    largest_first = sorted(
        range(len(trades)),
        key=lambda n: (trades[n].is_entry_or_exit, trades[n].traded_value),
        reverse=True,
    )
    counts = [0] * TRADE_SELECTION_BINS
    ranks: dict[int, tuple[bool, int]] = {}
    for n in largest_first:
        ranks[n] = not trades[n].is_entry_or_exit, counts[bins[n]]
        counts[bins[n]] += 1
    chosen = sorted(ranks, key=lambda n: ranks[n])[:max_trades]
    return [trades[n] for n in sorted(chosen)]


def stop_series(decisions: pd.DataFrame) -> Series:
    """Return the stops of a symbol as a line, with a gap where no stop is in force.

    Of more than `MAX_STOP_LEVELS` levels, an even selection is shown.

    decisions: the symbol's rows in the frame of decisions; at least one has a stop.
    """
    price = decisions["plan_stop_price"].to_numpy()
    at, until = (decisions[name].to_numpy(dtype="datetime64[ns]") for name in ("at", "until"))
    at = np.append(at, until[-1:])
    changes = np.append(True, price[1:] != price[:-1])  # NaN differs from NaN
    levels = np.flatnonzero(changes & np.isfinite(price))
    shown = min(len(levels), MAX_STOP_LEVELS)
    levels = levels[np.linspace(0, len(levels) - 1, shown).astype(np.intp)]
    # A level lasts until the next one that is shown, or until there is no stop.
    gaps = np.append(np.flatnonzero(np.isnan(price)), len(price))
    ends = np.minimum(gaps[np.searchsorted(gaps, levels)], np.append(levels[1:], len(price)))
    x = np.column_stack([at[levels], at[ends], at[ends]]).ravel()
    values = np.column_stack([price[levels], price[levels], np.full(shown, np.nan)]).ravel()
    return Series("stop", "fourth", x, values, significant_digits=PRICE_DIGITS)


def _protective_levels(run: Run, symbol: str) -> pd.DataFrame | None:
    """Return the stop prices of a symbol's protective orders, with the times at which each rests.

    None if the run has none. A level lasts until the next order, or until the position is closed.
    """
    sent = [(at, order) for at, order in run.protective_orders if order.symbol == symbol]
    if not sent:
        return None
    held = run.position_quantities([symbol])[0]
    instants = run.equity_curve()[0]
    flat = np.append(instants[held == 0], instants[-1])
    starts = np.array([at for at, _ in sent])
    ends = np.minimum(
        np.append(starts[1:], instants[-1]),
        flat[np.minimum(np.searchsorted(flat, starts), len(flat) - 1)],
    )
    prices = [order.stop_price or np.nan for _, order in sent]
    rows = [(starts, ends, np.array(prices)), (ends, ends, np.full(len(sent), np.nan))]
    at, until, price = (np.column_stack(parts).ravel() for parts in zip(*rows, strict=True))
    return pd.DataFrame({"at": at, "until": until, "plan_stop_price": price})


def _exit_reasons(
    trades: Sequence[ChartTrade],
    reasons: Mapping[str, str],
    sent_at: Mapping[str, pd.Timestamp],
    decisions: pd.DataFrame,
) -> dict[str, str]:
    """Return the reasons of orders that end a position, with the stop that applied before them.

    reasons, sent_at: reason of each order, and instant of its decision, by client order id.
    decisions: the symbol's rows in the frame of decisions.
    """
    last_stops = dict(zip(decisions["at"], decisions["plan_stop_price"].shift(), strict=True))
    found = {}
    for trade in trades:
        name = trade.fill.client_order_id
        stop = last_stops.get(sent_at.get(name), np.nan)
        if trade.position_before and trade.is_entry_or_exit and np.isfinite(stop):
            found[name] = (
                f"{reasons[name]}; the stop was at {format_rounded_price(stop, prefix='$')}"
            )
    return found


def _markers(trades: Sequence[ChartTrade], reasons: Mapping[str, str]) -> list[Series]:
    """Return the series of buys and of sells, each trade with a note."""
    notes = [
        ". ".join(filter(None, [trade.description, reasons.get(trade.fill.client_order_id)]))
        for trade in trades
    ]
    fills = [trade.fill for trade in trades]
    prices, quantities = np.array([(fill.price, fill.qty) for fill in fills], "f8").reshape(-1, 2).T
    return trade_series(np.array([fill.at for fill in fills]), prices, quantities, notes)


def _describe_stops(prices: Array, source: str) -> str:
    """Return the part of a chart's description that states its stops [N]; empty without any.

    source: noun of what has the stops.
    """
    if not len(prices):
        return ""
    low, high = (
        format_rounded_price(float(each), 2, prefix="$") for each in (prices.min(), prices.max())
    )
    return f"; stops from {low} to {high} at {format_count(len(prices), source)}"


def _description(symbol: str, closes: Array, trades: Sequence[ChartTrade], shown: int) -> str:
    """Return the description of a chart for screen readers."""
    first, last = (format_rounded_price(float(close), 2, prefix="$") for close in closes[[0, -1]])
    changes = sum(trade.is_entry_or_exit for trade in trades)
    text = f"{symbol}: from {first} to {last}, {format_count(len(trades), 'trade')}"
    if trades:
        text += f", {changes:,} of which open, close or reverse a position"
    return f"{text}; {shown:,} are marked" if shown < len(trades) else text
