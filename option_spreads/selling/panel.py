"""The section of an account's page that shows the spreads that a seller has open."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from execution.live.page import Section
from foundation.page import render_page
from option_spreads.selling.state import OpenSpread

_BODY = """
{% from "sheet" import box %}
{% if spreads %}{% call box("Open spreads") %}<table>
<thead><tr>{% for head in ("trade", "strategy", "strikes", "stage", "contracts left", "credit",
"asked for it", "since, New York") %}<th>{{ head }}</th>{% endfor %}<th class="text">why</th></tr>
</thead><tbody>{% for s in spreads %}<tr><th scope="row">{{ s.trade_id }}</th>
<td>{{ s.strategy }}</td>
<td>{% for o in s.options %}{{ "%g" % o.strike }}{{ "" if loop.last else " / " }}{% endfor %}</td>
<td>{{ s.stage }}</td><td>{{ s.remaining }} of {{ s.contracts }}</td><td>{{ s.credit }}</td>
<td>{{ s.asked }}</td><td>{{ s.entered }}</td><td class="text">{{ s.why or s.reason }}</td></tr>
{% endfor %}</tbody></table>{% endcall %}
{% else %}<p class="muted">No spread is open.</p>{% endif %}
"""


def spreads_section(spreads: Callable[[], Sequence[OpenSpread]]) -> Section:
    """What is open, credits in points a spread."""
    return Section("Open spreads", lambda: render_page(_BODY, spreads=spreads()))
