"""The template of a report: one page that reads without scripts, in light and dark."""

from __future__ import annotations

from foundation.charts import CHART_MACRO, CHART_STYLE
from foundation.page import COLOURS, SHEET, SHEET_MACROS, content_policy

_STYLE = (
    COLOURS
    + SHEET
    + CHART_STYLE
    + """
.stack { display: grid; gap: 1rem; align-content: start; min-width: 0 }
.box.tall { max-height: 26rem }
td.why { white-space: normal; text-align: left; min-width: 24rem }
td.words, th.words { text-align: left; white-space: normal }
tr.sum > * { font-weight: 650; border-top: 1px solid var(--quiet) }
td.main { font-weight: 650 } .range { font-weight: 400 } .headline thead th { max-width: 9rem }
td.gain { color: var(--good) } td.loss { color: var(--bad) }
.covered td.drawn { width: 22%; min-width: 3.5rem }
.bars td, .bars tbody th { vertical-align: middle } td.drawn { width: 34%; min-width: 5rem }
td.drawn svg { display: block; width: 100%; height: 1.1rem } td.spark svg { height: 2rem }
svg .long { fill: var(--first) } svg .short { fill: var(--third) }
svg .axis { stroke: var(--quiet); vector-effect: non-scaling-stroke; stroke-width: 1 }
svg .nominal { stroke: var(--limit); stroke-dasharray: 4 3; vector-effect: non-scaling-stroke;
  stroke-width: 1.5 }
td.drawn svg path.reach { stroke: var(--first); stroke-width: 2 } td.drawn svg path.point
  { stroke: var(--first); stroke-width: 8; stroke-linecap: round }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .5rem 1rem;
  margin: .4rem 0 .6rem } dt { color: var(--quiet); font-size: .82rem } dd { margin: 0;
  font-weight: 650; font-variant-numeric: tabular-nums }
.tabs > input { position: absolute; opacity: 0; pointer-events: none }
.tabs > label { display: inline-block; padding: .15rem .8rem; border: 1px solid var(--rule);
  border-radius: 99px; font-size: .85rem; cursor: pointer; margin: 0 .3rem .7rem 0 }
.tabs > input:checked + label { border-color: var(--first); color: var(--first); font-weight: 650 }
.tabs > input:focus-visible + label { outline: 2px solid var(--first) }
.tabs > .panel { display: none }
.tabs > input:nth-of-type(1):checked ~ .panel:nth-of-type(1),
.tabs > input:nth-of-type(2):checked ~ .panel:nth-of-type(2) { display: block }
summary { padding: .3rem 0 } pre { overflow-x: auto; font: .8rem/1.45 ui-monospace, monospace;
  margin: .3rem 0 }
.files { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap;
  gap: .3rem 1.2rem }
@media (max-width: 800px) { .range { white-space: normal }
  .headline td, .headline th { padding: .28rem .2rem } .ticks, .plot svg { height: 10rem }
  .spare { display: none } }
@media print { .box.tall { max-height: none } .tabs > .panel { display: block } }
"""
)

_MACROS = """
{% macro bar_cell(bar, axis=False) %}<td class="drawn{{ ' spare' if axis }}">
<svg viewBox="0 0 100 10" aria-hidden="true"
preserveAspectRatio="none"><rect class="{{ bar.side }}" x="{{ '%.2f' % bar.x }}" y="1"
width="{{ '%.2f' % bar.width }}" height="8"/>{% if axis %}<path class="axis" d="M50 0V10"/>
{%- endif %}</svg></td>{% endmacro %}
{% macro covered(rows) %}{% call box("Coverage") %}
<table class="bars covered"><thead><tr><th>group</th><th class="spare">forecasts</th><th>inside</th>
<th class="words">50 to 100 %</th><th>size</th></tr></thead><tbody>
{% for row in rows %}<tr><th scope="row">{{ row.group }}</th><td class="spare">{{ row.count }}</td>
<td>{{ row.share }}</td><td class="drawn"><svg viewBox="0 0 100 10" preserveAspectRatio="none"
aria-hidden="true"><path class="nominal" d="M{{ nominal }} 0V10"/>
<path class="reach" d="M{{ '%.1f' % row.low }} 5H{{ '%.1f' % row.high }}"/>
<path class="point" d="M{{ '%.1f' % row.x }} 5h0"/></svg></td>
<td>{{ row.size }}</td></tr>{% endfor %}
</tbody></table>{% endcall %}
{% endmacro %}
"""

_TOP = """
<h1>{{ s.forecaster }}{% if spoken_on %} {{ spoken_on }}{% endif %}: {{ heading }}</h1>
<p class="muted">{{ s.symbols | join(", ") }} &middot; {{ s.data }} &middot; dates are New York's,
instants with a Z are UTC, amounts are USD</p>
{{ top(verdict, s.warnings, notes) }}
"""

_FIGURES = """
<section class="wide"><h2>Figures</h2>
{% call box("Figures") %}<table class="headline"><thead><tr><th></th><th>{{ columns[0] }}</th>
{% for name in columns[1:] %}<th>{{ name }}</th>{% endfor %}</tr></thead><tbody>
{% for (label, cells), interval in rows %}<tr><th scope="row">{{ label }}</th>
<td class="main">{{ cells[0] }}{% if interval %}<span class="range">{{ interval }}</span>
{%- endif %}</td>
{% for cell in cells[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table>{% endcall %}
{% if significance %}<p>{{ significance }}</p>{% endif %}
<p class="muted">Returns are fractions of starting capital after spread, slippage, fees and
interest. Statistics come from the equity at 16:00 New York, {{ s.periods_per_year }} days a year;
the drawdown of every bar comes from the equity at every instant at which a bar became known.
Days up are counted among the days on which that column's equity changed. The ranges are 90 %
intervals, by the stationary bootstrap of daily returns.</p></section>

<section class="wide"><h2>Against what it has to beat</h2>
{% call box("Leads") %}<table><thead><tr><th></th><th>ends ahead by</th><th>90 % interval</th>
<th class="words">which is</th></tr></thead><tbody>{% for label, ahead, interval, says in leads %}
<tr><th scope="row">{{ label }}</th><td class="main">{{ ahead }}</td><td>{{ interval }}</td>
<td class="words">{{ says }}</td></tr>{% endfor %}</tbody></table>{% endcall %}
<p class="muted">Final equity over the other's, both at the end of the run; the interval is that of
whole days' differences up to the last 16:00, so that what moves both on a day does not count.</p>
</section>
"""

_CURVES = """
<section class="wide"><h2>Equity</h2>
<div class="tabs"><input type="radio" name="scale" id="linear" checked><label for="linear">linear
</label><input type="radio" name="scale" id="log"><label for="log">logarithmic</label>
<div class="panel">{{ drawn(equity) }}</div><div class="panel">{{ drawn(equity_log) }}</div></div>
<p class="muted">USD, at every instant at which a bar became known.</p></section>

<section class="wide"><h2>Drawdown</h2>{% if drawdown %}{{ drawn(drawdown) }}
<p class="muted">Below the highest equity until then, at 16:00 New York of each day. The deepest
point is the table's largest drawdown at 16:00, {{ deepest }}.</p>
{% else %}<p class="muted">The run holds no 16:00 of New York.</p>{% endif %}</section>

{% if not leverage %}<section class="wide"><h2>Leverage</h2><p class="muted">Nothing was held at
any 16:00 of New York.</p></section>{% endif %}
{% for title, chart in leverage %}<section class="{{ 'wide' if leverage | length == 1 }}">
<h2>{{ title }}</h2>{{ drawn(chart) }}
<p class="muted">Gross exposure over equity by day, which ends at 16:00 New York.</p></section>
{% endfor %}
"""

_SYMBOLS = """
<section class="wide"><h2>By symbol</h2>
{% call box("By symbol") %}<table class="bars"><thead><tr><th>symbol</th>
<th class="words">weight at 16:00, day by day</th><th class="spare">mean</th><th>largest</th>
<th>contribution</th><th class="words spare">loss · gain</th></tr></thead><tbody>
{% for row in symbols %}<tr><th scope="row">{{ row.bar.name }}</th>
<td class="drawn spark"><svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img"
aria-label="Weight of {{ row.bar.name }}, at most {{ row.largest }}">
<path class="axis" d="M0 {{ row.zero }}H1000"/>
<path class="long" d="{{ row.spark }}"/></svg></td>
<td class="spare">{{ row.mean }}</td><td>{{ row.largest }}</td><td>{{ row.bar.cells[0] }}</td>
{{ bar_cell(row.bar, axis=True) }}</tr>{% endfor %}
{% for bar in rest %}<tr{% if loop.last %} class="sum"{% endif %}>
<th scope="row">{{ bar.name }}</th>
<td></td><td class="spare"></td><td></td><td>{{ bar.cells[0] }}</td><td class="spare"></td></tr>
{% endfor %}</tbody></table>{% endcall %}
<p class="muted">Weights share one scale; the line is no position, above it long, below it short.
Contributions are after fees, what is still held at its last close; <em>other</em> is dividends,
borrow, interest on cash and the rounding of fees.</p></section>

<section><h2>Monthly returns</h2>
{% call box("Monthly returns") %}<table><thead><tr><th></th>
{% for year in years %}<th>{{ year }}</th>{% endfor %}</tr></thead><tbody>
{% for name, cells in months %}
<tr{% if loop.last %} class="sum"{% endif %}><th scope="row">{{ name }}</th>
{% for text, tone in cells %}
<td class="{{ tone }}">{{ text }}</td>{% endfor %}</tr>{% endfor %}</tbody></table>{% endcall %}
<p class="muted">They compound to the total return. The first and the last month may be parts.</p>
</section>

<div class="stack"><section><h2>Costs</h2>{% call box("Costs") %}
<table class="bars"><thead><tr><th>kind</th><th>USD</th><th>of what was traded</th><th></th></tr>
</thead><tbody>{% for bar in costs %}<tr{% if loop.last %} class="sum"{% endif %}>
<th scope="row">{{ bar.name }}</th>{% for cell in bar.cells %}<td>{{ cell }}</td>{% endfor %}
{{ bar_cell(bar) }}</tr>{% endfor %}</tbody></table>{% endcall %}
<p class="muted">{{ gross }}</p></section>

<section><h2>Rolling Sharpe ratio</h2>{% if rolling %}{{ drawn(rolling) }}
<p class="muted">Of the last {{ window }} days, scaled to a year. The table's ratio is that of all
{{ "{:,}".format(s.days) }}.</p>
{% else %}<p class="muted">{{ no_rolling }}</p>{% endif %}</section></div>
"""

_MONEY = """
{% macro parts_of(rows, name) %}{% call box(name, True) %}<table><thead><tr><th></th>
{% for part in part_names %}<th>{{ part }}</th>{% endfor %}<th>profit</th></tr></thead><tbody>
{% for name, cells in rows %}<tr{% if loop.last %} class="sum"{% endif %}>
<th scope="row">{{ name }}</th>{% for cell in cells %}
<td{% if loop.last %} class="{{ "loss" if "-" in cell else "gain" if "+" in cell }}"{% endif %}>
{{- cell }}</td>{% endfor %}</tr>{% endfor %}</tbody></table>{% endcall %}{% endmacro %}
<section class="wide"><h2>Where the money came from</h2>
{% call box("Where the money came from") %}<table class="bars"><thead><tr><th>part</th>
<th>USD</th><th class="words spare">loss · gain</th><th class="words">what it is</th></tr></thead>
<tbody>{% for bar in money.parts %}<tr{% if loop.last %} class="sum"{% endif %}>
<th scope="row">{{ bar.name }}</th><td>{{ bar.cells[0] }}</td>
{% if loop.last %}<td class="spare"></td>{% else %}{{ bar_cell(bar, axis=True) }}{% endif %}
<td class="words">{{ money.meanings[loop.index0] }}</td></tr>{% endfor %}</tbody></table>
{% endcall %}
<p class="muted">Each is a part of what was held, times the move of its price. What was wanted
before limits and costs may be many times what was held: what it would have earned, and what limits
and sizing took of that, belong together. Definitions: docs/BACKTEST.md.</p>
<h3>By symbol</h3>{{ parts_of(money.symbols, "Parts by symbol") }}
<h3>By hour of day</h3>{{ drawn(money.chart) }}{{ parts_of(money.hours, "Parts by hour of day") }}
<p class="muted">New York's time at which the bar became known; the first bar of a session brings
the night before it along. <em>account</em> is interest and the rounding of a day's fees, which no
symbol pays alone.</p></section>
"""

_TRIPS = """
<section class="wide"><h2>Round trips</h2>
<dl class="facts">{% for name, text in trip_facts %}
<div><dt>{{ name }}</dt><dd>{{ text }}</dd></div>{% endfor %}</dl>
<table><tbody>{% for name, text in trip_sums %}<tr{% if loop.last %} class="sum"{% endif %}>
<th scope="row">{{ name }}</th><td>{{ text }}</td></tr>{% endfor %}</tbody></table>
{% if trips %}<details>
<summary>{{ "{:,}".format(listed) }} of {{ "{:,}".format(closed) }} round trips
{%- if closed > listed %}, the latest{% endif %}; and what is still held</summary>
{% call box("Round trips", True) %}<table><thead><tr>{% for head in ("symbol", "opened", "closed",
"side", "quantity", "entry", "exit", "fees", "profit") %}<th>{{ head }}</th>{% endfor %}
</tr></thead>
<tbody>{% for symbol, cells, tone in trips %}<tr><th scope="row">{{ symbol }}</th>
{% for cell in cells[:-1] %}<td>{{ cell }}</td>{% endfor %}
<td class="{{ tone }}">{{ cells[-1] }}</td>
</tr>{% endfor %}</tbody></table>{% endcall %}</details>{% endif %}
<p class="muted">Each fill that reduces a position, with the lots it closes, first in, first out;
profit after the fees of both ways.</p></section>
"""

_FORECASTS = """
<section class="wide"><h2>Forecasts and what happened</h2>
{% if not forecasts %}<p class="muted">No decision of this run rested on a forecast whose interval
has ended: there is nothing to compare.</p>{% else %}
{% for symbol, chart in fans %}{% if loop.first %}<h3>{{ symbol }}</h3>{{ drawn(chart) }}
{% else %}<details><summary>{{ symbol }}</summary>{{ drawn(chart) }}</details>{% endif %}
{% endfor %}
<p class="muted">The cones are not the forecast's own quantiles, which a run does not keep, but
those of the normal with the mean and the deviation that each decision read from its forecast, up to
the next decision.</p></section>
<section><h2>Calibration</h2>{{ drawn(pit) }}
<p class="muted">Probability of a return below the one that followed, by the normal with each
forecast's mean and deviation and not by its own quantiles, which a run does not keep;
{{ "{:,}".format(forecasts) }} forecasts. Calibrated forecasts make bars of equal height; ends that
stand out are those of too narrow forecasts, a middle that does of too wide ones, or of returns with
heavier tails than a normal's.</p></section>
<section><h2>Coverage by regime and hour</h2>
{{ covered(coverage_regimes) }}
<p class="muted">Inside: outcomes in the central 80 %, which the dashed line marks; heavy tails put
more than that there. Size: root mean square outcome over the forecast deviation, 1 where that is
right, whatever the tails. ± is half of a 95 % interval, by Student's t over weeks. Calm, usual and
rough are thirds of each symbol's forecasts by the deviation of its last 100 bars.</p>
<details><summary>by hour of the decision, New York</summary>{{ covered(coverage_hours) }}</details>
{% endif %}</section>
"""

_ORDERS = """
<section class="wide"><h2>Orders and why</h2>
<details><summary>{{ "{:,}".format(orders | length) }} of {{ "{:,}".format(sent) }} orders
{%- if sent > orders | length %}, the latest{% endif %}</summary>
{% call box("Orders", True) %}<table><thead><tr>
{% for head in ("decided", "symbol", "order", "filled", "mean price", "fee", "why") %}
<th>{{ head }}</th>{% endfor %}</tr></thead><tbody>
{% for row in orders %}<tr>{% for cell in row[:-1] %}<td>{{ cell }}</td>{% endfor %}
<td class="why">{{ row[-1] }}</td></tr>
{% endfor %}</tbody></table>{% endcall %}</details>
<p class="muted">A limit's worth is what one more of equity there would add to the interval's
expected return, net of risk.</p></section>

<section class="wide"><h2>Settings and files</h2>
<ul class="files">{% for name in files %}<li><a href="{{ name }}">{{ name }}</a></li>
{% endfor %}</ul>
<details><summary>every setting</summary><pre>{{ settings }}</pre></details></section>
"""

PAGE = (
    '{% extends "frame" %}{% block title %}Backtest {{ heading }}{% endblock %}{% block head %}'
    + content_policy()
    + "{% endblock %}{% block style %}"
    + _STYLE
    + "{% endblock %}{% block body %}"
    + SHEET_MACROS
    + CHART_MACRO
    + _MACROS
    + _TOP
    + '<div class="grid">'
    + _FIGURES
    + _CURVES
    + _SYMBOLS
    + _MONEY
    + _TRIPS
    + _FORECASTS
    + _ORDERS
    + "</div>{% endblock %}"
)
