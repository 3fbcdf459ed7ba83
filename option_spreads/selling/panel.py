"""The dashboard's section of spreads: those that a seller has open."""

from __future__ import annotations

from execution.live.dashboard_reading import JournalReader
from execution.live.dashboard_views import Section, View, Watched
from execution.live.dashboard_words import exact
from option_spreads.selling.state import FILE, read_state

_BODY = """
{% if spreads.trouble or spreads.view %}
<section class="wide" aria-labelledby="spreads"><h2 id="spreads">Open spreads</h2>
{% if spreads.trouble %}{{ trouble(spreads) }}{% elif not spreads.view.rows %}
<p class="muted">No spread is open in <code>{{ spreads.view.place }}</code>.</p>
{% else %}{% call box("Open spreads") %}<table>
<caption>Points a spread; from <code>{{ spreads.view.place }}</code></caption>
<tr>{% for head in ("trade", "strategy", "strikes", "stage", "contracts left", "credit",
"asked for it", "since, New York") %}<th scope="col">{{ head }}</th>{% endfor %}
<th scope="col" class="text">why</th></tr>
{% for s in spreads.view.rows %}<tr><th scope="row">{{ s.id }}</th><td>{{ s.strategy }}</td>
<td class="nowrap">{{ s.strikes }}</td><td>{{ s.stage }}</td><td>{{ s.contracts }}</td>
<td>{{ s.credit }}</td><td>{{ s.asked }}</td><td class="nowrap">{{ s.entered }}</td>
<td class="text">{{ s.why }}</td></tr>{% endfor %}</table>{% endcall %}{% endif %}</section>
{% endif %}
"""


def spreads_view(reader: JournalReader, watched: Watched) -> View | None:
    """Spreads that are open; none where no folder of theirs was named.

    Raises
    ------
    UnknownState
        for a file that cannot be read.
    """
    del reader
    if watched.spreads is None:
        return None
    rows = [
        {
            "id": each.trade_id,
            "strategy": each.strategy,
            "strikes": " / ".join(f"{option.strike:g}" for option in each.options),
            "stage": each.stage,
            "contracts": f"{each.remaining} of {each.contracts}",
            "credit": exact(str(each.credit)),
            "asked": exact(str(each.asked)),
            "entered": each.entered,
            "why": each.why or each.reason,
        }
        for each in read_state(watched.spreads).spreads
    ]
    return {"rows": rows, "place": str(watched.spreads / FILE)}


SECTION = Section(spreads_view, _BODY)
