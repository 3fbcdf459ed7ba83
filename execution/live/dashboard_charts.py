"""Curves of an account as a page draws them: paths of an SVG, and the texts beside it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from execution.live.dashboard_figures import (
    invested,
    places_of,
    shares_of_equity,
)
from execution.live.dashboard_reading import History
from execution.live.dashboard_words import day_text, multiple, usd, whole_usd
from foundation.arrays import Array, Instants
from foundation.charts import Chart, Line, axis_of, chart_of, line_path, thinned

LEVERAGE_DAYS = np.timedelta64(14, "D")  # ceilings rise and fall with every session


def equity_chart(history: History) -> Chart | None:
    """The equity of every mark beside what was paid in; none before the second mark."""
    if len(history.at) < 2:
        return None
    paid = invested(history)
    kept = thinned(history.equity)
    equity = history.equity[kept]
    axis = axis_of(float(min(equity.min(), paid.min())), float(max(equity.max(), paid.max())))
    at = history.at[kept]
    places = places_of(at)
    text = (
        f"Equity from {usd(history.equity[0])} on {day_text(at[0])} to {usd(history.equity[-1])}"
        f" on {day_text(at[-1])}, lowest {usd(history.equity.min())},"
        f" highest {usd(history.equity.max())}."
    )
    return chart_of(
        text,
        _dates(at),
        axis,
        whole_usd if axis.ticks[1] - axis.ticks[0] >= 1 else usd,
        Line("paid in", "limit", line_path(places, axis.heights(paid[kept]), steps=True)),
        Line("equity", "first", line_path(places, axis.heights(equity))),
    )


def leverage_chart(history: History) -> Chart | None:
    """Gross of stocks and coins and the ceiling of stocks; none before the second mark."""
    begin = int(np.searchsorted(history.at, history.at[-1] - LEVERAGE_DAYS))
    at = history.at[begin:]
    equity = history.equity[begin:]
    if len(at) < 2 or not np.any(equity > 0):
        return None
    stock = shares_of_equity(history.stock[begin:], equity)
    coin = shares_of_equity(history.coin[begin:], equity)
    ceiling = history.ceiling[begin:]
    kept = thinned(stock / np.maximum(ceiling, 1e-9))
    at, stock, coin, ceiling = at[kept], stock[kept], coin[kept], ceiling[kept]
    top = float(np.nanmax([np.nanmax(stock), np.nanmax(coin), ceiling.max()]))
    axis = axis_of(0.0, max(top, 0.1))
    places = places_of(at)

    def curve(name: str, kind: str, values: Array) -> Line:
        return Line(name, kind, line_path(places, axis.heights(values), steps=True))

    text = (
        f"Stock gross {multiple(stock[-1])} of a ceiling of {multiple(ceiling[-1])} and coins"
        f" {multiple(coin[-1])}, in multiples of equity, from {day_text(at[0])} to"
        f" {day_text(at[-1])}."
    )
    return chart_of(
        text,
        _dates(at),
        axis,
        lambda value: f"{value:g}×",
        curve("ceiling of stocks", "limit", ceiling),
        curve("coins", "second", coin),
        curve("stocks", "first", stock),
    )


def _dates(at: Instants) -> tuple[str, ...]:
    """The begin, the middle and the end of a plot, UTC."""
    first = pd.Timestamp(at[0])
    last = pd.Timestamp(at[-1])
    style = "%d %b %H:%M" if last - first < pd.Timedelta(days=4) else "%d %b %Y"
    middle = first + (last - first) / 2
    return tuple(f"{each:{style}}" for each in (first, middle, last))
