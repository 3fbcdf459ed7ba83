"""One self-contained HTML page from a run's equity and its summary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from foundation.page import embedded_plot, render_page
from trainingdata.instants import NEW_YORK

PAGE = """{% extends "frame" %}
{% block title %}Backtest {{ heading }}{% endblock %}
{% block style %}
.orders { max-height: 32rem; overflow: auto }
.orders table { margin: 0; font-size: 13px; white-space: nowrap }
.orders td:last-child, .orders th:last-child { text-align: left; white-space: normal;
  min-width: 26rem }
{% endblock %}
{% block body %}
<h1>{{ s.forecaster }}: {{ heading }}</h1>
<p class="muted">{{ s.symbols | join(", ") }} &middot; {{ s.data }}</p>
{% for remark in s.remarks %}<p class="remark">{{ remark }}</p>{% endfor %}
<table><tr><th></th>{% for name in columns %}<th>{{ name }}</th>{% endfor %}</tr>
{% for label, cells in rows %}<tr><td>{{ label }}</td>
{% for cell in cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
{% if significance %}<p>{{ significance }}</p>{% endif %}
{{ figure | safe }}
<h2>Orders and why</h2>
<p class="muted">{{ orders | length }} of {{ sent }} orders
{%- if sent > orders | length %}, the latest{% endif %}. A limit's worth is what one more of
equity there would add to the interval's expected return, net of risk.</p>
<div class="orders"><table>
<tr>{% for head in ("decided", "symbol", "order", "filled", "price", "fee", "why") %}
<th>{{ head }}</th>{% endfor %}</tr>
{% for row in orders %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
<p class="muted">Returns are fractions of starting capital after spread, slippage, fees and
interest; statistics come from the equity at 16:00 New York, {{ s.periods_per_year }} days a year.
Leverage is gross exposure over equity after each instant's fills.</p>
{% endblock %}
"""

LISTED = 5000  # orders on the page; the file has all
RUN_COLORS = ("#2456c8", "#98a2b3", "#d98324")  # the main run, random walk, buy-and-hold
CLASSES = (("gross_stock", "stocks", "#2456c8"), ("gross_crypto", "crypto", "#15a36a"))
# Label, name in the summary, format.
ROWS = (
    ("total return", "total_return", "{:+.2%}"),
    ("annual return", "annual_return", "{:+.2%}"),
    ("volatility", "volatility", "{:.2%}"),
    ("Sharpe", "sharpe", "{:.2f}"),
    ("Sortino", "sortino", "{:.2f}"),
    ("Calmar", "calmar", "{:.2f}"),
    ("largest drawdown", "max_drawdown", "{:.2%}"),
    ("days below a peak", "drawdown_days", "{:,}"),
    ("5 % worst day", "value_at_risk", "{:.2%}"),
    ("mean beyond it", "expected_shortfall", "{:.2%}"),
    ("days with a gain", "hit_rate", "{:.0%}"),
    ("profit factor", "profit_factor", "{:.2f}"),
    ("mean leverage", "mean_leverage", "{:.2f}x"),
    ("turnover a year", "turnover", "{:,.0f}x"),
    ("costs", "costs", "${:,.2f}"),
    ("interest", "interest", "${:,.2f}"),
    ("trades", "trades", "{:,}"),
)


def heading(summary: dict[str, Any]) -> str:
    """The run's first and last New York date."""
    first, last = (
        pd.Timestamp(summary[key]).tz_convert(NEW_YORK).date() for key in ("start", "end")
    )
    return f"{first} to {last}"


def column_names(summary: dict[str, Any]) -> list[str]:
    """The main run's name, then the comparisons'; one that rests on the premium alone says so."""
    names = [summary["forecaster"]]
    for name, run in summary["comparisons"].items():
        names.append(f"{name} (prior alone)" if run["rests_on_prior"] == 1.0 else name)
    return names


def format_rows(summary: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """(label, a cell per column) for every figure people look at; n/a where one is not defined."""
    columns = [summary, *summary["comparisons"].values()]
    rows = []
    for label, key, style in ROWS:
        values = [column[key] for column in columns]
        rows.append((label, ["n/a" if value is None else style.format(value) for value in values]))
    return rows


def significance_text(summary: dict[str, Any]) -> str:
    """What the Sharpe ratio is worth, in a sentence; empty where there is none."""
    if summary["sharpe"] is None:
        return ""
    text = f"Sharpe {summary['sharpe']:.2f}"
    if "sharpe" in summary["intervals"]:
        low, high = summary["intervals"]["sharpe"]
        text += (
            f", 90 % interval {low:.2f} to {high:.2f} (stationary bootstrap, {summary['days']}"
            " days)"
        )
    if summary["deflated_sharpe"] is not None:
        others = "1 variant" if summary["trials"] == 1 else f"{summary['trials']} variants"
        text += (
            f"; probability that it is above zero {summary['probabilistic_sharpe']:.0%},"
            f" {summary['deflated_sharpe']:.0%} after {others} tried on these data"
        )
    return text + "."


def render_report(
    summary: dict[str, Any],
    equity: list[pd.DataFrame],
    ceilings: dict[np.datetime64, float],
    orders: pd.DataFrame,
    fills: pd.DataFrame,
) -> str:
    """The page: figures, equity, drawdown, leverage against its ceilings, every order and why.

    Parameters
    ----------
    summary: the content of `summary.json`.
    equity: a frame per column of the table, the main run first.
    ceilings: stock gross allowed by decision instant, in multiples of equity.
    orders: of the main run.
    fills: of the main run.
    """
    names = column_names(summary)
    return render_page(
        PAGE,
        s=summary,
        heading=heading(summary),
        columns=names,
        rows=format_rows(summary),
        significance=significance_text(summary),
        sent=len(orders),
        orders=_order_rows(orders.tail(LISTED), fills),
        figure=_figure(names, equity, ceilings),
    )


def _order_rows(orders: pd.DataFrame, fills: pd.DataFrame) -> list[tuple[str, ...]]:
    """A row an order: instant, symbol, order, quantity filled, mean price, fee in USD, and why."""
    # Coin fees and splits are on the tape as fills at price 0; they are no part of an order's.
    traded = fills[fills["price"] > 0]
    value = (traded["qty"] * traded["price"]).groupby(traded["client_order_id"]).sum()
    size, fee = (traded.groupby("client_order_id")[column].sum() for column in ("qty", "fee"))
    rows: list[tuple[str, ...]] = []
    for order in orders.to_dict("records"):
        name = order["client_order_id"]
        filled = ("none", "", "")
        if name in size.index and size[name]:
            price = value[name] / size[name]
            filled = (f"{size[name]:+g}", f"{price:,.4f}", f"{fee[name]:,.4f}")
        at = f"{order['at']:%Y-%m-%d %H:%M}"
        quantity = f"{order['side']} {order['qty']:g}"
        rows.append((at, order["symbol"], quantity, *filled, order["reason"]))
    return rows


def _figure(
    names: list[str], frames: list[pd.DataFrame], ceilings: dict[np.datetime64, float]
) -> str:
    # Importing a room loads no heavy library: commands that draw nothing start without plotly.
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles = ("Equity, USD", "Drawdown", "Leverage: gross exposure over equity")
    figure = make_subplots(rows=3, shared_xaxes=True, vertical_spacing=0.06, subplot_titles=titles)
    for name, frame, color in zip(names, frames, RUN_COLORS, strict=True):
        equity = frame["equity"]
        line = {"color": color, "width": 1.5}
        curve = go.Scatter(x=frame["at"], y=equity.round(2), name=name, line=line)
        figure.add_trace(curve, row=1, col=1)
        falls = (equity / equity.cummax() - 1).round(5)
        fall = go.Scatter(x=frame["at"], y=falls, name=name, line=line, showlegend=False)
        figure.add_trace(fall, row=2, col=1)
    main = frames[0]
    for column, label, color in CLASSES:
        multiples = (main[column] / main["equity"]).round(4)
        step = {"color": color, "shape": "hv"}
        leverage = go.Scatter(x=main["at"], y=multiples, name=label, line=step)
        figure.add_trace(leverage, row=3, col=1)
    step = {"color": "#c4314b", "dash": "dot", "shape": "hv"}
    at = pd.DatetimeIndex(np.array(list(ceilings), dtype="datetime64[ns]")).tz_localize("UTC")
    ceiling = go.Scatter(x=at, y=list(ceilings.values()), name="stock ceiling", line=step)
    figure.add_trace(ceiling, row=3, col=1)
    figure.update_layout(
        height=900,
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 40, "b": 40},
        hovermode="x unified",
    )
    figure.update_yaxes(tickformat=".0%", row=2, col=1)
    return embedded_plot(figure)
