"""One self-contained HTML page with many strategies side by side."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from foundation.page import embedded_plot, render_page
from trainingdata.bars import Bars
from trainingdata.instants import NEW_YORK

POINTS = 2000  # of a curve, on the page; the file has all

PAGE = """{% extends "frame" %}
{% block title %}Strategies {{ heading }}{% endblock %}
{% block style %}
td { white-space: nowrap }
{% endblock %}
{% block body %}
<h1>Strategies on the same forecasts: {{ heading }}</h1>
<p class="muted">{{ symbols | join(", ") }} &middot; {{ source }}</p>
{% for note in notes %}<p class="remark">{{ note }}</p>{% endfor %}
<table><tr><th>variant</th>{% for head in heads %}<th>{{ head }}</th>{% endfor %}</tr>
{% for name, cells in rows %}<tr><td>{{ name }}</td>
{% for cell in cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
{{ figure | safe }}
<p class="muted">After spread, slippage, fees and interest; intervals by the stationary bootstrap of
daily returns; a deflated ratio is the probability that it is above zero after all that was tried on
these data.</p>
{% endblock %}
"""


def render_comparison(
    bars: Bars,
    heads: Sequence[str],
    rows: Sequence[tuple[str, Sequence[str]]],
    notes: Sequence[str],
    equity: pd.DataFrame,
) -> str:
    """The page: a row a variant, what must not be missed, equity and drawdown.

    Parameters
    ----------
    bars: the panel of all variants.
    heads: of the columns beside the variant's name.
    rows: name and cells of each variant.
    notes: sentences above the table.
    equity: `at`, then a column a variant, USD.
    """
    first, last = (equity["at"].iloc[k].tz_convert(NEW_YORK).date() for k in (0, -1))
    return render_page(
        PAGE,
        heading=f"{first} to {last}",
        symbols=bars.symbols,
        source=bars.source,
        notes=notes,
        heads=heads,
        rows=rows,
        figure=_figure(equity),
    )


def _figure(equity: pd.DataFrame) -> str:
    # Importing a room loads no heavy library: commands that draw nothing start without plotly.
    import plotly.graph_objects as go
    from plotly.colors import qualitative
    from plotly.subplots import make_subplots

    shown = equity.iloc[:: max(1, len(equity) // POINTS)]
    titles = ("Equity, USD", "Drawdown")
    figure = make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.08, subplot_titles=titles)
    for k, name in enumerate(equity.columns[1:]):
        style = {
            "name": name,
            "line": {"color": qualitative.Dark24[k % 24], "width": 1.5},
            "legendgroup": name,
        }
        curve = go.Scatter(x=shown["at"], y=shown[name].round(2), **style)
        figure.add_trace(curve, row=1, col=1)
        # Falls are from the peaks of every instant, not of the points that are drawn.
        falls = (equity[name] / equity[name].cummax() - 1).loc[shown.index].round(5)
        fall = go.Scatter(x=shown["at"], y=falls, **style, showlegend=False)
        figure.add_trace(fall, row=2, col=1)
    figure.update_layout(
        height=850, template="plotly_white", margin={"l": 60, "r": 20, "t": 40, "b": 40}
    )
    figure.update_yaxes(tickformat=".0%", row=2, col=1)
    return embedded_plot(figure)
