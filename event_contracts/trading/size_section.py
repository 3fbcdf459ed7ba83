"""Sizes of orders as a section of a page: figures, a histogram, and two plots without scripts.

The pages of a comparison and of an account show the same section: a template that holds
`CHART_MACRO` and `SIZE_MACRO` calls `sized(view)`, and its style holds `CHART_STYLE` and
`SIZE_STYLE`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from event_contracts.trading.position_sizes import Episode, PositionSizeMetrics, sized_profits
from execution.live.page_words import hour, usd
from foundation.arrays import Array
from foundation.charts import (
    WIDTH,
    Axis,
    Chart,
    Line,
    axis_of,
    chart_of,
    dots_path,
    line_path,
    thinned,
)

Clock = Literal["steps", "seconds"]
STRETCHES = 20  # of time, over each of which a mean is taken

SIZE_STYLE = """
.sizes svg { width: 100%; height: 1.2rem; display: block; min-width: 4rem }
.sizes rect { fill: var(--first) } .sizes td:last-child, .sizes th:last-child { width: 45% }
.size-plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr));
  gap: 1rem } .size-plots h3 { font-size: .95rem; margin: .6rem 0 }
"""

SIZE_MACRO = """
{% macro sized(view) %}
<table>
{% for name, value in view.rows %}<tr><th scope="row">{{ name }}</th><td>{{ value }}</td></tr>
{% endfor %}</table>
<table class="sizes"><caption>Orders by size</caption>
<tr><th scope="col">contracts</th><th scope="col">orders</th><th scope="col">share</th>
<th scope="col">mean profit</th><th scope="col"></th></tr>
{% for bar in view.bars %}<tr><th scope="row">{{ bar.size }}</th><td>{{ bar.orders }}</td>
<td>{{ bar.share }}</td><td>{{ bar.profit }}</td>
<td><svg viewBox="0 0 100 10" preserveAspectRatio="none" role="presentation">
<rect x="0" y="1" width="{{ bar.width }}" height="8"/></svg></td></tr>
{% endfor %}</table>
<div class="size-plots">
{% for heading, chart in view.plots %}<div><h3>{{ heading }}</h3>{{ drawn(chart) }}</div>
{% endfor %}</div>
{% endmacro %}
"""


class Bar(NamedTuple):
    """A row of the histogram: contracts, orders, their share and mean profit, width in percent."""

    size: str
    orders: str
    share: str
    profit: str
    width: str


@dataclass(frozen=True, slots=True)
class SizeView:
    """What the section shows.

    rows: name and text of each figure.
    bars: of the histogram, the smallest size first.
    plots: heading and plot.
    """

    rows: tuple[tuple[str, str], ...]
    bars: tuple[Bar, ...]
    plots: tuple[tuple[str, Chart], ...]


def size_view(episodes: Iterable[Episode], clock: Clock = "steps") -> SizeView | None:
    """The section of some episodes; none where no order was sent.

    clock: what `SentOrder.at` counts.
    """
    episodes = tuple(episodes)
    metrics = PositionSizeMetrics.of(episodes)
    if not metrics.position_size_distribution:
        return None
    profits = sized_profits(episodes)
    sent = [(order.at, order.size) for episode in episodes for order in episode.orders]
    at, sizes = np.array(sent, dtype=float).T
    plots = [("Sizing over time", _over_time(at, sizes, clock))]
    if profits:
        plots.insert(0, ("Size against profit", _against_profit(*np.array(profits).T)))
    return SizeView(metrics.rows(), _bars(metrics, profits), tuple(plots))


def _bars(metrics: PositionSizeMetrics, profits: list[tuple[int, float]]) -> tuple[Bar, ...]:
    counts = metrics.position_size_distribution
    bars = []
    for size, count in counts.items():
        earned = [profit for each, profit in profits if each == size]
        bars.append(
            Bar(
                size=f"{size}",
                orders=f"{count:,}",
                share=f"{count / sum(counts.values()):.1%}",
                profit=usd(float(np.mean(earned)), "+,.2f") if earned else "–",
                width=f"{100 * count / max(counts.values()):.2f}",
            )
        )
    return tuple(bars)


def _against_profit(sizes: Array, profits: Array) -> Chart:
    """A point for each order, and the mean profit of each size."""
    across = axis_of(0.0, float(sizes.max()))
    up = axis_of(min(float(profits.min()), 0.0), max(float(profits.max()), 0.0))
    kept = thinned(profits)
    each = np.unique(sizes)
    means = np.array([profits[sizes == size].mean() for size in each])
    text = (
        f"Profit of {len(profits)} orders by their size, from {profits.min():.2f} to"
        f" {profits.max():.2f} USD."
    )
    return chart_of(
        text,
        tuple(f"{tick:g}" for tick in across.ticks),
        up,
        lambda value: usd(value, ",.0f"),
        Line(
            "an order",
            "second dots",
            dots_path(_places(sizes[kept], across), up.heights(profits[kept])),
        ),
        Line("mean of a size", "first", line_path(_places(each, across), up.heights(means))),
    )


def _over_time(at: Array, sizes: Array, clock: Clock) -> Chart:
    """A point for each order, and the mean size of each stretch of time."""
    begin, end = float(at.min()), float(at.max())
    span = max(end - begin, 1.0)
    places = WIDTH * (at - begin) / span
    up = axis_of(0.0, float(sizes.max()))
    order = np.argsort(at, kind="stable")
    kept = order[thinned(sizes[order])]
    stretch = np.minimum((STRETCHES * (at - begin) / span).astype(int), STRETCHES - 1)
    counts = np.bincount(stretch, minlength=STRETCHES)
    sums = np.bincount(stretch, sizes, STRETCHES)
    means = np.divide(sums, counts, out=np.full(STRETCHES, np.nan), where=counts > 0)
    middles = WIDTH * (np.arange(STRETCHES) + 0.5) / STRETCHES
    there = ~np.isnan(means)
    labels = tuple(_clock_text(value, clock) for value in (begin, (begin + end) / 2, end))
    text = f"Sizes of {len(at)} orders from {labels[0]} to {labels[-1]}, mean {sizes.mean():.1f}."
    return chart_of(
        text,
        labels,
        up,
        lambda value: f"{value:g}",
        Line("an order", "second dots", dots_path(places[kept], up.heights(sizes[kept]))),
        Line("mean size", "first", line_path(middles[there], up.heights(means[there]))),
    )


def _places(values: Array, across: Axis) -> Array:
    return np.asarray(WIDTH * (values - across.ticks[0]) / (across.ticks[-1] - across.ticks[0]))


def _clock_text(value: float, clock: Clock) -> str:
    if clock == "steps":
        return f"step {value:.0f}"
    return f"{hour(np.datetime64(round(value), 's'))} UTC"
