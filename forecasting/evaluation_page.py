"""One self-contained HTML page from an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from foundation.page import embedded_plot, render_page

if TYPE_CHECKING:
    import plotly.graph_objects as go

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

TITLES = (
    "Gain by step, %",
    "PIT",
    "Rank correlation by step",
    "80 % interval holds, step 1, by hour",
    "80 % holds, calmest to wildest fifth",
    "(return/σ)², calmest to wildest fifth",
)
FIFTHS = ("calmest", "2", "3", "4", "wildest")
COLORS = ("#2456c8", "#d98324", "#15a36a", "#98a2b3", "#8e4ec6")
MAIN_LINE = {"color": "#2456c8"}
TARGETS = {"inside80": (0.8, 0.75, 0.85), "scale": (1.0, 0.9, 1.1)}  # what is meant, and around it
RANGES = {"inside80": [0.5, 1.0], "scale": [0.0, 2.0]}


def render(figures: dict[str, Any], frames: dict[str, pd.DataFrame]) -> str:
    """The page: gains, PIT, rank correlation, coverage by hour and volatility; tables below."""
    tables = [(name, list(steps.items())) for name, steps in figures["groups"].items()]
    return render_page(PAGE, f=figures, tables=tables, figure=_figure(figures, frames))


def _figure(figures: dict[str, Any], frames: dict[str, pd.DataFrame]) -> str:
    from plotly.subplots import make_subplots

    kinds = [kind for kind in ("stock", "crypto") if kind in figures["groups"]]
    titles = [f"{what}, {kind}" for kind in kinds for what in TITLES]
    figure = make_subplots(
        rows=2 * len(kinds), cols=3, subplot_titles=titles, vertical_spacing=0.09
    )
    for number, kind in enumerate(kinds):
        group = figures["groups"][kind]
        row = 2 * number + 1
        steps = [step for step in group if step.isdigit()]
        _add_gains(figure, row, figures["against"], group, steps)
        _add_pit(figure, row, frames, kind)
        _add_ranks(figure, row, [group[step][figures["forecaster"]] for step in steps], steps)
        _add_coverage(figure, row + 1, kind, group[steps[0]])
    margin = {"l": 50, "r": 20, "t": 40, "b": 40}
    figure.update_layout(
        height=640 * len(kinds), template="plotly_white", margin=margin, legend={"orientation": "h"}
    )
    return embedded_plot(figure)


def _add_gains(
    figure: go.Figure, row: int, against: list[str], group: dict[str, Any], steps: list[str]
) -> None:
    """Gain on every other forecaster by step, with two standard errors."""
    import plotly.graph_objects as go

    for name, color in zip(against, COLORS, strict=False):
        gains = [group[step]["skill"][name] for step in steps]
        errors = [200 * (gain["error"] or 0) for gain in gains]
        line = go.Scatter(
            x=steps,
            y=[100 * gain["mean"] for gain in gains],
            error_y={"type": "data", "array": errors},
            name=f"gain on {name}",
            line={"color": color},
            showlegend=row == 1,
        )
        figure.add_trace(line, row, 1)


def _add_pit(figure: go.Figure, row: int, frames: dict[str, pd.DataFrame], kind: str) -> None:
    """Density of the probability integral transform of the first three forecasters."""
    import plotly.graph_objects as go

    for name, color in zip(frames, ("#2456c8", "#d98324", "#98a2b3"), strict=False):
        frame = frames[name]
        pit = frame.loc[frame["kind"] == kind, "pit"]
        line = go.Scatter(
            x=np.arange(20) / 20,
            y=np.histogram(pit, bins=20, range=(0, 1), density=True)[0],
            line={"color": color, "shape": "hv"},
            name=f"PIT {name}",
            showlegend=row == 1,
        )
        figure.add_trace(line, row, 2)


def _add_ranks(figure: go.Figure, row: int, scores: list[dict[str, Any]], steps: list[str]) -> None:
    """Rank correlation by step, with two standard errors."""
    import plotly.graph_objects as go

    errors = [2 * (score["information_error"] or 0) for score in scores]
    line = go.Scatter(
        x=steps,
        y=[score["information"] for score in scores],
        error_y={"type": "data", "array": errors},
        line=MAIN_LINE,
        showlegend=False,
    )
    figure.add_trace(line, row, 3)


def _add_coverage(figure: go.Figure, row: int, kind: str, first: dict[str, Any]) -> None:
    """Coverage by hour and by volatility, and scale by volatility, of the first scored step."""
    import plotly.graph_objects as go

    hours = first["hours"]
    by_hour = [hour["inside80"] for hour in hours.values()]
    for column, x, y, what in (
        (1, [_hour(kind, slot) for slot in hours], by_hour, "inside80"),
        (2, list(FIFTHS), first["fifths"]["inside80"], "inside80"),
        (3, list(FIFTHS), first["fifths"]["scale"], "scale"),
    ):
        bar = go.Bar(x=x, y=y, marker=MAIN_LINE, showlegend=False)
        figure.add_trace(bar, row, column)
        for level, dash in zip(TARGETS[what], ("solid", "dot", "dot"), strict=True):
            line = {"color": "#c4314b", "width": 1, "dash": dash}
            figure.add_hline(y=level, line=line, row=row, col=column)
        figure.update_yaxes(range=RANGES[what], row=row, col=column)


def _hour(kind: str, slot: str) -> str:
    """The New York time a forecast is issued at, from the place in the day of its bar."""
    if kind == "crypto":
        return f"{(int(slot) + 1) % 24:02d}:00"
    return "16:00" if int(slot) == 6 else f"{10 + int(slot)}:30"
