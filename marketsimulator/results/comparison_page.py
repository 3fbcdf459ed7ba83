"""One self-contained HTML page with many strategies side by side."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from foundation.page import embedded, page
from trainingdata.bars import Bars
from trainingdata.sessions import NEW_YORK

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
    """The page: a row a variant, what must not be missed, equity and drawdown. equity: `at`,
    then a column a variant, USD.
    """
    first, last = (
        at.tz_convert(NEW_YORK).date() for at in (equity["at"].iloc[0], equity["at"].iloc[-1])
    )
    return page(
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
    import plotly.graph_objects as go
    from plotly.colors import qualitative
    from plotly.subplots import make_subplots

    shown = equity.iloc[:: max(1, len(equity) // POINTS)]
    figure = make_subplots(
        rows=2, shared_xaxes=True, vertical_spacing=0.08, subplot_titles=("Equity, USD", "Drawdown")
    )
    for k, name in enumerate(equity.columns[1:]):
        line = {"color": qualitative.Dark24[k % 24], "width": 1.5}
        falls = (equity[name] / equity[name].cummax() - 1).loc[shown.index].round(5)
        figure.add_trace(
            go.Scatter(
                x=shown["at"], y=shown[name].round(2), name=name, line=line, legendgroup=name
            ),
            row=1,
            col=1,
        )
        fall = go.Scatter(
            x=shown["at"], y=falls, name=name, line=line, legendgroup=name, showlegend=False
        )
        figure.add_trace(fall, row=2, col=1)
    figure.update_layout(
        height=850, template="plotly_white", margin={"l": 60, "r": 20, "t": 40, "b": 40}
    )
    figure.update_yaxes(tickformat=".0%", row=2, col=1)
    return embedded(figure)
