"""One self-contained HTML page with many strategies side by side."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from jinja2 import Environment

from trainingdata.bars import Bars
from trainingdata.sessions import NEW_YORK

POINTS = 2000  # of a curve, on the page; the file has all

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Strategies {{ heading }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem; color: #1c2430 }
h1 { font-size: 1.4rem } table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
td, th { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #e3e7ee } td { white-space: nowrap }
td:first-child, th:first-child { text-align: left }
.remark { background: #fff5d6; padding: .5rem .9rem; border-radius: 4px } .muted { color: #667085 }
</style></head><body>
<h1>Strategies on the same forecasts: {{ heading }}</h1>
<p class="muted">{{ symbols | join(", ") }} &middot; {{ source }}</p>
{% for note in notes %}<p class="remark">{{ note }}</p>{% endfor %}
<table><tr><th>variant</th>{% for head in heads %}<th>{{ head }}</th>{% endfor %}</tr>
{% for name, cells in rows %}<tr><td>{{ name }}</td>{% for cell in cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
{{ figure | safe }}
<p class="muted">After spread, slippage, fees and interest; intervals by the stationary bootstrap of daily returns; a deflated
ratio is the probability that it is above zero after all that was tried on these data.</p>
</body></html>
"""


def render_comparison(
    bars: Bars, heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], notes: Sequence[str], equity: pd.DataFrame
) -> str:
    """The page: a row a variant, what must not be missed, equity and drawdown. equity: `at`, then a column a variant, USD."""
    first, last = (at.tz_convert(NEW_YORK).date() for at in (equity["at"].iloc[0], equity["at"].iloc[-1]))
    return (
        Environment(autoescape=True)
        .from_string(PAGE)
        .render(
            heading=f"{first} to {last}",
            symbols=bars.symbols,
            source=bars.source,
            notes=notes,
            heads=heads,
            rows=rows,
            figure=_figure(equity),
        )
    )


def _figure(equity: pd.DataFrame) -> str:
    import plotly.graph_objects as go
    from plotly.colors import qualitative
    from plotly.subplots import make_subplots

    shown = equity.iloc[:: max(1, len(equity) // POINTS)]
    figure = make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.08, subplot_titles=("Equity, USD", "Drawdown"))
    for k, name in enumerate(equity.columns[1:]):
        line = {"color": qualitative.Dark24[k % 24], "width": 1.5}
        falls = (equity[name] / equity[name].cummax() - 1).loc[shown.index].round(5)
        figure.add_trace(
            go.Scatter(x=shown["at"], y=shown[name].round(2), name=name, line=line, legendgroup=name), row=1, col=1
        )
        fall = go.Scatter(x=shown["at"], y=falls, name=name, line=line, legendgroup=name, showlegend=False)
        figure.add_trace(fall, row=2, col=1)
    figure.update_layout(height=850, template="plotly_white", margin={"l": 60, "r": 20, "t": 40, "b": 40})
    figure.update_yaxes(tickformat=".0%", row=2, col=1)
    return str(figure.to_html(full_html=False, include_plotlyjs="inline"))
