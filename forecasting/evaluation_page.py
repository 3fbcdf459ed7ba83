"""One self-contained HTML page from an evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from foundation.page import embedded, page

PAGE = """{% extends "frame" %}
{% block title %}Forecasts {{ f.start[:10] }} to {{ f.end[:10] }}{% endblock %}
{% block style %}
table { font-size: 14px }
{% endblock %}
{% block body %}
<h1>{{ f.forecaster }}: {{ f.start[:10] }} to {{ f.end[:10] }}</h1>
<p class="muted">{{ f.data }}. Loss: mean pinball loss over 21 levels of the log return, in units of
the trailing deviation. A gain is how much less is lost than by another forecaster on the same
forecasts, with the standard error of weekly clusters; it is coloured beyond two of them.</p>
{{ figure | safe }}
{% for group, steps in tables %}<h2>{{ group }}</h2>
<table><tr><th>step</th><th>forecasts</th><th>loss</th><th>CRPS</th>
{% for name in f.against %}<th>gain on {{ name }}</th>{% endfor %}
<th>80 % interval score</th><th>80 % holds</th><th>90 %</th><th>98 %</th>
<th>(return/σ)²</th><th>PIT mean</th>
<th>PIT distance</th><th>rank correlation</th></tr>
{% for step, found in steps %}{% set s = found[f.forecaster] %}
<tr><td>{{ step }}</td><td>{{ "{:,}".format(s.forecasts) }}</td>
<td>{{ "%.4f" % s.loss }}</td><td>{{ "%.4f" % s.crps }}</td>
{% for name in f.against %}{% set g = found.skill[name] %}
<td class="{{ 'good' if g.beyond > 0 else 'bad' if g.beyond < 0 else '' }}">
{{ "%+.2f" % (100 * g.mean) }}
{{- "" if g.error is none else " ± %.2f" % (100 * g.error) }} %</td>{% endfor %}
<td>{{ "%.3f" % s.score80 }}</td><td>{{ "%.3f" % s.inside80 }}</td>
<td>{{ "%.3f" % s.inside90 }}</td>
<td>{{ "%.3f" % s.inside98 }}</td>
<td>{{ "%.2f" % s.scale }}</td><td>{{ "%.3f" % s.pit_mean }}</td>
<td>{{ "%.3f" % s.pit_distance }}</td>
<td>{% if s.information is none %}none
{%- else %}{{ "%+.3f ± %.3f" % (s.information, s.information_error) }}{% endif %}</td></tr>
{% endfor %}</table>{% endfor %}
{% endblock %}
"""

COLORS = ("#2456c8", "#d98324", "#15a36a", "#98a2b3", "#8e4ec6")


def render(figures: dict[str, Any], frames: dict[str, pd.DataFrame]) -> str:
    """The page: gains by step, coverage by hour and by volatility, PIT, rank correlation by
    step; tables below.
    """
    tables = [(name, list(steps.items())) for name, steps in figures["groups"].items()]
    return page(PAGE, f=figures, tables=tables, figure=_figure(figures, frames))


def _figure(figures: dict[str, Any], frames: dict[str, pd.DataFrame]) -> str:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    kinds = [g for g in ("stock", "crypto") if g in figures["groups"]]
    titles = [f"{what}, {kind}" for kind in kinds for what in TITLES]
    figure = make_subplots(
        rows=2 * len(kinds), cols=3, subplot_titles=titles, vertical_spacing=0.09
    )
    for number, kind in enumerate(kinds):
        group = figures["groups"][kind]
        row = 2 * number + 1
        steps = [step for step in group if step.isdigit()]
        for name, color in zip(figures["against"], COLORS, strict=False):
            gains = [100 * group[step]["skill"][name]["mean"] for step in steps]
            bars = {
                "type": "data",
                "array": [200 * (group[step]["skill"][name]["error"] or 0) for step in steps],
            }
            style = {"color": color}
            figure.add_trace(
                go.Scatter(
                    x=steps,
                    y=gains,
                    error_y=bars,
                    name=f"gain on {name}",
                    line=style,
                    showlegend=not number,
                ),
                row,
                1,
            )
        for name, color in zip(frames, ("#2456c8", "#d98324", "#98a2b3"), strict=False):
            frame = frames[name]
            pit = np.histogram(
                frame.loc[frame["kind"] == kind, "pit"], bins=20, range=(0, 1), density=True
            )[0]
            style = {"color": color, "shape": "hv"}
            figure.add_trace(
                go.Scatter(
                    x=np.arange(20) / 20,
                    y=pit,
                    line=style,
                    name=f"PIT {name}",
                    showlegend=not number,
                ),
                row,
                2,
            )
        ranks = [group[step][figures["forecaster"]] for step in steps]
        bars = {"type": "data", "array": [2 * (r["information_error"] or 0) for r in ranks]}
        line = {"color": "#2456c8"}
        figure.add_trace(
            go.Scatter(
                x=steps,
                y=[r["information"] for r in ranks],
                error_y=bars,
                line=line,
                showlegend=False,
            ),
            row,
            3,
        )
        first = group[steps[0]]
        hours = first["hours"]
        fifth = first["fifths"]
        named = [_hour(kind, slot) for slot in hours]
        for column, x, y, what in (
            (1, named, [h["inside80"] for h in hours.values()], "inside80"),
            (2, list(FIFTHS), fifth["inside80"], "inside80"),
            (3, list(FIFTHS), fifth["scale"], "scale"),
        ):
            figure.add_trace(go.Bar(x=x, y=y, marker=line, showlegend=False), row + 1, column)
            target, low, high = (0.8, 0.75, 0.85) if what == "inside80" else (1.0, 0.9, 1.1)
            for level, dash in ((target, "solid"), (low, "dot"), (high, "dot")):
                figure.add_hline(
                    y=level,
                    line={"color": "#c4314b", "width": 1, "dash": dash},
                    row=row + 1,
                    col=column,
                )
            figure.update_yaxes(
                range=[0.5, 1.0] if what == "inside80" else [0.0, 2.0], row=row + 1, col=column
            )
    margin = {"l": 50, "r": 20, "t": 40, "b": 40}
    figure.update_layout(
        height=640 * len(kinds), template="plotly_white", margin=margin, legend={"orientation": "h"}
    )
    return embedded(figure)


TITLES = (
    "Gain by step, %",
    "PIT",
    "Rank correlation by step",
    "80 % interval holds, step 1, by hour",
    "80 % holds, calmest to wildest fifth",
    "(return/σ)², calmest to wildest fifth",
)
FIFTHS = ("calmest", "2", "3", "4", "wildest")


def _hour(kind: str, slot: str) -> str:
    """The New York time a forecast is issued at, from the place in the day of its bar."""
    if kind == "crypto":
        return f"{(int(slot) + 1) % 24:02d}:00"
    return "16:00" if int(slot) == 6 else f"{10 + int(slot)}:30"
