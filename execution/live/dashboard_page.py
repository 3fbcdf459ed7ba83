"""The dashboard's page: one template on the frame of every report, without scripts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from execution.live.dashboard_views import Section
from foundation.charts import CHART_MACRO, CHART_STYLE
from foundation.page import render_page

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --quiet: #556070; --rule: #dde2ea;
  --card: #f7f9fc; --first: #2456c8; --second: #0b7a4b; --limit: #b4540a; --good: #12702f;
  --bad: #b42318; --warn: #8a4b00; --good-ground: #e4f5e9; --bad-ground: #fdeae7;
  --warn-ground: #fff3d6; --info-ground: #e6edfb }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9f1; --quiet: #a3aebd; --rule: #2d3644; --card: #161c26; --first: #82a9ff;
    --second: #4fcf94; --limit: #f0a35e; --good: #6fd393; --bad: #ff9a8d; --warn: #f3bd6a;
    --good-ground: #12301d; --bad-ground: #3a1613; --warn-ground: #33260b; --info-ground: #17253f }
  body { background: #0e131b }
}
* { box-sizing: border-box }
body { color: var(--ink); margin: 0 auto; padding: 1.2rem 1rem 3rem; overflow-wrap: break-word }
h1 { margin: 0 } h2 { margin: 0 0 .6rem } h3 { font-size: .95rem; margin: 0 }
p { margin: .3rem 0 }
.muted { color: var(--quiet) } .good { color: var(--good) } .bad { color: var(--bad) }
.warn { color: var(--warn) } .info { color: var(--first) }
.remark { background: var(--warn-ground); color: var(--ink) }
.grid { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 1rem;
  margin-top: 1rem }
.grid > section { background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 1rem; min-width: 0 }
.wide { grid-column: 1 / -1 }
.state { border-radius: 10px; padding: 1rem; margin-top: 1rem; border-left: 6px solid }
.state.good { background: var(--good-ground) } .state.bad { background: var(--bad-ground) }
.state.warn { background: var(--warn-ground) }
.state > * { color: var(--ink) }
.state .word { font-size: 1.5rem; font-weight: 700; margin: 0 } .state.good .word
  { color: var(--good) } .state.bad .word { color: var(--bad) } .state.warn .word
  { color: var(--warn) }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr));
  gap: .6rem 1.2rem; margin: .8rem 0 0 }
.facts div { min-width: 0 } dt { color: var(--quiet); font-size: .85rem } dd { margin: 0 }
.alert { border-left: 4px solid var(--warn); padding: .2rem 0 .2rem .8rem; margin-top: .8rem }
.alert.bad { border-color: var(--bad); color: var(--ink) }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr));
  gap: .6rem 1rem; margin: .6rem 0 1rem }
.figures dd { font-size: 1.1rem; font-weight: 600; font-variant-numeric: tabular-nums;
  white-space: nowrap }
.figures .note { font-size: .85rem; font-weight: 400; color: var(--quiet); display: block;
  white-space: normal }
.large { font-size: 1.7rem; font-weight: 700; margin: 0; font-variant-numeric: tabular-nums }
.box { overflow-x: auto; max-width: 100% } .box.tall { max-height: 26rem; overflow-y: auto }
.box:focus-visible { outline: 2px solid var(--first) }
table { width: 100%; margin: 0; font-size: .88rem } td, th { border-color: var(--rule);
  padding: .3rem .5rem; vertical-align: top } th { color: var(--quiet); font-weight: 600;
  white-space: nowrap }
caption { text-align: left; color: var(--quiet); font-size: .85rem; padding-bottom: .3rem }
td.text, th.text { text-align: left } td.text { min-width: 13rem; overflow-wrap: anywhere }
td.nowrap { white-space: nowrap } td.short { min-width: 6rem }
.bars td { padding: .3rem .4rem; white-space: nowrap } .bars td:last-child { width: 40% }
.bars th:last-child { text-align: center }
.bars svg { width: 100%; height: 1.3rem; display: block; min-width: 3.5rem }
.bars .long { fill: var(--first) } .bars .short { fill: var(--limit) }
.bars line { stroke: var(--quiet); vector-effect: non-scaling-stroke }
.bars .cap { stroke: var(--bad); stroke-dasharray: 3 3 }
.orders { list-style: none; margin: 0; padding: 0 } .orders li { border-top: 1px solid var(--rule);
  padding: .6rem 0; display: grid; grid-template-columns: minmax(0, 21rem) minmax(0, 1fr);
  gap: .2rem 1.2rem } .orders li:first-child { border-top: 0 }
.narrow .orders li { grid-template-columns: minmax(0, 1fr) }
.orders p { margin: 0; font-size: .88rem; overflow-wrap: anywhere }
.pill { display: inline-block; border-radius: 99px; padding: 0 .55rem; font-size: .8rem;
  font-weight: 600; border: 1px solid currentcolor }
.id { font: .78rem/1.4 ui-monospace, monospace; color: var(--quiet); overflow-wrap: anywhere }
code { font: .85em ui-monospace, monospace; overflow-wrap: anywhere }
footer { margin-top: 1.5rem; font-size: .85rem }
@media (max-width: 800px) { .grid { grid-template-columns: minmax(0, 1fr) }
  .orders li { grid-template-columns: minmax(0, 1fr) } body { padding: .8rem .7rem 2rem }
  .ticks, .plot svg { height: 10rem } .bars td, .bars th { padding: .3rem .2rem } }
summary { cursor: pointer; color: var(--first); padding: .5rem 0 }
"""

_MACROS = """{% macro box(label, tall=False) %}
<div class="box{{ ' tall' if tall }}" role="region" tabindex="0" aria-label="{{ label }}">
{{ caller() }}</div>
{% endmacro %}
{% macro listed(orders) %}
<ol class="orders">
{% for o in orders %}<li><div>
<h3>{{ o.what }} <span class="pill {{ o.level }}">{{ o.state }}</span></h3>
<p>{{ o.kind }}, filled {{ o.filled }}</p>
<p class="muted">{{ o.at }}</p>
<p class="muted">{{ o.age }}{% if o.job %}, {{ o.job }}{% endif %}</p></div>
<div>{% if o.why %}<p><strong class="{{ o.level }}">{{ o.state | capitalize }}:</strong>
{{ o.why }}</p>{% endif %}
<p>{{ o.reason or "No reason was written down." }}</p>
<p class="id">{{ o.id }}
{%- if o.expires and o.state in ("working", "planned") %}, not wanted after {{ o.expires }}
{%- endif %}</p></div></li>
{% endfor %}</ol>
{% endmacro %}
{% macro trouble(part) %}<p class="remark" role="alert">{{ part.trouble }}</p>{% endmacro %}
"""

_STATE = """
{% if state.trouble %}<div class="state bad"><p class="word">The journal cannot be read</p>
<p>{{ state.trouble }}</p>
<p>Look at the file and at its disk. A loop that starts sets a damaged journal aside, and
halts until a person has looked.</p></div>
{% else %}{% set s = state.view %}
<section class="state {{ s.level }}" aria-labelledby="state"><h2 class="word" id="state">
{{- s.word }}</h2>
<p>{{ s.sentence }}</p>
<dl class="facts">{% for name, value, age in s.facts %}
<div><dt>{{ name }}</dt><dd><strong>{{ age }}</strong><br>{{ value }}</dd></div>
{% endfor %}</dl>
{% for alert in s.alerts %}<div class="alert {{ alert.level }}">
<h3>{{ alert.heading }}</h3><p>{{ alert.text }}</p>
{% if alert.command %}<p><code>{{ alert.command }}</code></p>{% endif %}</div>{% endfor %}
</section>{% endif %}
"""

_MONEY = """
<section aria-labelledby="equity"><h2 id="equity">Equity</h2>
{% if equity.trouble %}{{ trouble(equity) }}{% elif not equity.view %}
<p class="muted">No pass has been made yet. The first one marks what the account is worth.</p>
{% else %}{% set e = equity.view %}
<p class="large">{{ e.equity }}</p>
<p class="muted">cash {{ e.cash }}{% if e.flows %}; {{ e.flows }}{% endif %}</p>
<dl class="figures">{% for name, value, note, tone in e.figures %}
<div><dt>{{ name }}</dt><dd class="{{ tone }}">{{ value }}<span class="note">{{ note }}</span>
</dd></div>{% endfor %}</dl>
{% if e.chart %}{{ drawn(e.chart) }}
{% else %}<p class="muted">The curve begins with the second mark.</p>{% endif %}
{% endif %}</section>

{% if not contracts %}<section aria-labelledby="leverage"><h2 id="leverage">Leverage</h2>
{% if leverage.trouble %}{{ trouble(leverage) }}{% elif not leverage.view %}
<p class="muted">No pass has been made yet.</p>
{% else %}{% set v = leverage.view %}
<p class="large {{ 'bad' if v.above }}">{{ v.stock }}</p>
<p class="muted">in stocks, of a ceiling of {{ v.ceiling }}</p>
<dl class="figures">
<div><dt>share of the ceiling</dt><dd class="{{ 'bad' if v.above }}">{{ v.used }}
<span class="note">{{ "above it" if v.above else "under it" }}</span></dd></div>
<div><dt>coins</dt><dd>{{ v.coin }}<span class="note">of equity</span></dd></div>
{% if v.highest %}<div><dt>highest share so far</dt><dd>{{ v.highest[0] }}
<span class="note">on {{ v.highest[1] }}</span></dd></div>{% endif %}</dl>
{% if v.chart %}{{ drawn(v.chart) }}
{% else %}<p class="muted">The curve begins with the second mark.</p>{% endif %}
{% endif %}</section>{% endif %}

<section aria-labelledby="positions"><h2 id="positions">Positions</h2>
{% if positions.trouble %}{{ trouble(positions) }}{% elif not positions.view %}
<p class="muted">No pass has been made yet.</p>
{% elif not positions.view.rows %}<p class="muted">Nothing is held.</p>
{% else %}{% set p = positions.view %}
{% call box("Positions") %}<table class="bars">
<caption>Shares of equity; the dashed lines are the cap of a
{{ "market" if contracts else "symbol" }}, {{ p.cap }}</caption>
<tr><th scope="col">symbol</th><th scope="col">weight</th><th scope="col">value</th>
<th scope="col">short · long</th></tr>
{% for row in p.rows %}<tr><th scope="row">{{ row.symbol }}</th>
<td class="{{ 'bad' if row.above }}">{{ row.weight }}{{ " above the cap" if row.above }}</td>
<td>{{ row.value }}</td><td><svg viewBox="-100 0 200 10" preserveAspectRatio="none" role="img"
aria-label="{{ row.weight }} of equity"><rect class="{{ row.side }}" x="{{ row.x }}" y="1.5"
width="{{ row.width }}" height="7"/><line x1="0" x2="0" y1="0" y2="10"/>
<line class="cap" x1="{{ p.line }}" x2="{{ p.line }}" y1="0" y2="10"/>
<line class="cap" x1="-{{ p.line }}" x2="-{{ p.line }}" y1="0" y2="10"/></svg></td></tr>
{% endfor %}</table>{% endcall %}{% endif %}</section>
"""

_ORDERS = """
<section class="narrow" aria-labelledby="waiting"><h2 id="waiting">Orders that wait</h2>
{% if orders.trouble %}{{ trouble(orders) }}{% elif not orders.view.waiting %}
<p class="muted">No order waits.</p>
{% else %}{{ listed(orders.view.waiting) }}{% endif %}</section>

<section class="wide" aria-labelledby="orders"><h2 id="orders">Latest orders and why</h2>
{% if orders.trouble %}{{ trouble(orders) }}{% elif not orders.view.total %}
<p class="muted">No order was written down yet. Each is, with its reason, before it is sent.</p>
{% else %}<p class="muted">{{ "{:,}".format(orders.view.total) }} orders so far:
{{ orders.view.counts }}.</p>{{ listed(orders.view.latest) }}
{% if orders.view.older %}<details><summary>{{ orders.view.older | length }} older orders</summary>
{{ listed(orders.view.older) }}</details>{% endif %}{% endif %}</section>
"""

_DECISIONS = """
{% if not contracts %}
<section class="wide" aria-labelledby="decision"><h2 id="decision">Last decision</h2>
{% if decision.trouble %}{{ trouble(decision) }}{% elif not decision.view %}
<p class="muted">Nothing was decided yet. A decision is made when an hourly bar has closed and its
market goes on.</p>
{% else %}{% set d = decision.view %}
<p>Of {{ d.at }} ({{ d.age }}), until {{ d.until }}. Equity {{ d.equity }}, ceiling of stocks
{{ d.ceiling }}. <span class="id">{{ d.name }}</span></p>
{% if d.failure %}<p class="remark">{{ d.failure }}</p>{% endif %}
{% for rule in d.rules %}<p class="muted">{{ rule }}</p>{% endfor %}
{% call box("Choices of the last decision") %}<table>
<caption>Forecast of the next holding interval, weights in multiples of equity
{%- if d.earlier %}; symbols whose market was shut are shown as they were decided last
{%- endif %}</caption>
<tr><th scope="col">symbol</th><th scope="col">decided, UTC</th><th scope="col">forecast μ</th>
<th scope="col">σ</th><th scope="col">Kelly</th><th scope="col">held</th>
<th scope="col">target</th><th scope="col">order</th><th scope="col">price</th>
<th scope="col" class="text">bound by</th><th scope="col" class="text">rests on</th></tr>
{% for c in d.rows %}<tr{% if not c.latest %} class="muted"{% endif %}>
<th scope="row">{{ c.symbol }}</th><td class="nowrap">{{ c.at }}</td>
<td class="nowrap">{{ c.mu }}</td><td class="nowrap">{{ c.sigma }}</td><td>{{ c.kelly }}</td>
<td>{{ c.held }}</td><td><strong>{{ c.target }}</strong></td><td>{{ c.qty }}</td>
<td>{{ c.price }}</td><td class="text short">{{ c.bound }}</td><td class="text">{{ c.rests }}</td>
</tr>{% endfor %}</table>{% endcall %}{% endif %}</section>{% endif %}
"""

_RECORD = """
<section class="wide" aria-labelledby="passes"><h2 id="passes">Passes</h2>
{% if cycles.trouble %}{{ trouble(cycles) }}{% elif not cycles.view.rows %}
<p class="muted">No pass has been made yet.</p>
{% else %}{% call box("Passes", tall=True) %}<table>
<caption>The latest passes, UTC</caption>
<tr><th scope="col">began</th><th scope="col" class="text">job</th>
<th scope="col" class="text">came to</th><th scope="col">fills</th>
<th scope="col" class="text">decision, or why none</th></tr>
{% for c in cycles.view.rows %}<tr><td class="nowrap">{{ c.at }}</td>
<td class="text short">{{ c.job }}</td>
<td class="text short {{ 'bad' if c.word == 'failed' }}">{{ c.word }}</td><td>{{ c.fills }}</td>
<td class="text">{{ c.said }}</td></tr>{% endfor %}</table>{% endcall %}{% endif %}</section>

<section class="wide" aria-labelledby="notices"><h2 id="notices">Notices</h2>
{% if notices.trouble %}{{ trouble(notices) }}{% elif not notices.view.rows %}
<p class="muted">Nobody had to be told of anything yet.</p>
{% else %}{% call box("Notices", tall=True) %}<table><caption>The latest alerts, UTC</caption>
<tr><th scope="col">at</th><th scope="col" class="text">of</th>
<th scope="col" class="text">what was said</th></tr>
{% for n in notices.view.rows %}<tr><td class="nowrap">{{ n.at }}<br>
<span class="muted">{{ n.age }}</span></td><td class="text short">{{ n.kind }}</td>
<td class="text">{{ n.text }}</td></tr>{% endfor %}</table>{% endcall %}{% endif %}</section>

<section class="wide" aria-labelledby="events"><h2 id="events">Log</h2>
{% if events.trouble %}{{ trouble(events) }}{% elif not events.view.rows %}
<p class="muted">Nothing has happened yet.</p>
{% else %}{% call box("Log", tall=True) %}<table>
<caption>The latest events, UTC</caption>
<tr><th scope="col">at</th>{% for head in ("what", "of", "more") %}
<th scope="col" class="text">{{ head }}</th>{% endfor %}</tr>
{% for at, kind, subject, content in events.view.rows %}<tr><td class="nowrap">{{ at }}</td>
<td class="text short">{{ kind }}</td><td class="text"><code>{{ subject }}</code></td>
<td class="text"><code>{{ content }}</code></td></tr>{% endfor %}</table>{% endcall %}{% endif %}
</section>
"""

_HEADER = """<header><h1>Account {{ account }}</h1>
<p class="muted">{{ now }}; the page reads the journal anew every {{ seconds }} seconds.</p>
</header><main>"""

_FOOTER = """</main>
<footer class="muted"><p>From <code>{{ journal }}</code>, which is only read. Caps and limits are
those of configs/{{ "trade_kalshi" if contracts else "live" }}.yaml and of the words that this page
was started with.</p></footer>
"""


def dashboard_page(sections: Iterable[Section], **values: Any) -> str:
    """The page. Every section is a part with its view, or with the trouble that kept it from one.

    sections: those that products register.
    values: account, journal, now, seconds and word, all text; contracts, whether it holds event
        contracts; state, a part; and, where the journal could be read, the parts equity, leverage,
        positions, orders, decision, cycles, notices and events, and one of each section.
    """
    return render_page(_template(tuple(sections)), **values)


def _template(sections: Sequence[Section]) -> str:
    styles, macros, bodies = (
        "".join(getattr(section, name) for section in sections)
        for name in ("style", "macros", "body")
    )
    return (
        '{% extends "frame" %}{% block title %}{{ word }} · account {{ account }}{% endblock %}'
        f"{{% block style %}}{CHART_STYLE}{styles}{_STYLE}{{% endblock %}}"
        f"{{% block body %}}{CHART_MACRO}{macros}{_MACROS}{_HEADER}{_STATE}"
        '{% if equity %}<div class="grid">'
        f"{_MONEY}{_ORDERS}{_DECISIONS}{bodies}{_RECORD}</div>{{% endif %}}{_FOOTER}"
        "{% endblock %}"
    )
