"""What stress found, as tables on the terminal and as one HTML page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from foundation.cents import usd_text
from foundation.page import COLOURS, SHEET, SHEET_MACROS, content_policy, render_page
from marketsimulator.results.stress_outcomes import OPTIONS, Outcome, Stress
from marketsimulator.results.stress_words import (
    call_text,
    claim,
    consequence,
    end_leverage,
    held_text,
    leverage_text,
    liquidated_text,
    liquidation_rows,
    remarks,
    source_text,
)
from marketsimulator.results.verdict import Verdict
from trainingdata.instants import utc_text

HEADS = (
    *("scenario", "loss", "of equity", "equity after", "leverage", "margin call"),
    *("the broker closes", "equity then", "leverage then"),
)
RULES = (
    "Margin, fees and liquidation are the simulator's own settlement on the moved prices, which"
    " stay where they are; nobody decides anything meanwhile. A broker's own order is its affair."
)


def stress_parts(found: Stress) -> Iterator[RenderableType]:
    """The worst case, the table of scenarios, losses by symbol, and what a reader should know."""
    yield from (claim(found), consequence(found))
    table = Table(*HEADS, title=held_text(found))
    for column in table.columns[1:5]:
        column.justify = "right"
    for outcome in found.outcomes:
        table.add_row(*_cells(found, outcome))
    yield table
    yield _by_symbol(found)
    yield from (f"{o.scenario.name}: {source_text(found, o)}" for o in found.outcomes)
    yield from (*remarks(found), RULES)


def _cells(found: Stress, outcome: Outcome) -> tuple[str, ...]:
    share = found.share(outcome.loss)
    wiped = ", wiped out" if outcome.wiped_out else ""
    return (
        outcome.scenario.name,
        usd_text(outcome.loss),
        "" if share is None else f"{share:.2%}",
        usd_text(outcome.equity) + wiped,
        f"{leverage_text(found.leverage)} to {leverage_text(outcome.leverage)}",
        call_text(outcome),
        liquidated_text(outcome),
        usd_text(outcome.equity_end),
        leverage_text(end_leverage(outcome)),
    )


def _by_symbol(found: Stress) -> Table:
    """Losses in USD, a column for each scenario."""
    names = [outcome.scenario.name for outcome in found.outcomes]
    table = Table("", "quantity", "mark", *names, title="loss")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in _loss_rows(found):
        table.add_row(*row)
    return table


def _loss_rows(found: Stress) -> list[tuple[str, ...]]:
    book = found.book
    held = zip(book.symbols, book.quantities.tolist(), book.marks.tolist(), strict=True)
    rows = []
    for symbol, quantity, mark in held:
        losses = (usd_text(outcome.losses[symbol]) for outcome in found.outcomes)
        rows.append((symbol, f"{quantity:,.10g}", f"{mark:,.6g}", *losses))
    if book.option_risk:
        losses = (usd_text(outcome.losses[OPTIONS]) for outcome in found.outcomes)
        rows.append((OPTIONS, "", "", *losses))
    rows.append(("sum", "", "", *(usd_text(outcome.loss) for outcome in found.outcomes)))
    return rows


_STYLE = (
    COLOURS
    + SHEET
    + "tbody th { white-space: nowrap } td.words { text-align: left; white-space: normal;"
    + " min-width: 9rem }"
)

_BODY = """
<h1>Stress</h1>
<p class="muted">{{ held }} &middot; instants with a Z are UTC, amounts are USD</p>
{{ top(verdict, [], notes) }}
<div class="grid">
<section class="wide"><h2>Scenarios</h2>
{% call box("Scenarios") %}<table><thead><tr>{% for head in heads %}<th>{{ head }}</th>{% endfor %}
</tr></thead><tbody>
{% for row in rows %}<tr><th scope="row">{{ row[0] }}</th>
{% for cell in row[1:] %}<td{% if loop.index in (5, 6) %} class="words"{% endif %}>{{ cell }}</td>
{%- endfor %}</tr>{% endfor %}</tbody></table>{% endcall %}
<p class="muted">{{ rules }}</p></section>
<section class="wide"><h2>Loss by symbol</h2>
{% call box("Loss by symbol") %}<table><thead><tr><th></th><th>quantity</th><th>mark</th>
{% for name in names %}<th>{{ name }}</th>{% endfor %}</tr></thead><tbody>
{% for row in losses %}<tr><th scope="row">{{ row[0] }}</th>
{% for cell in row[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}
</tbody></table>{% endcall %}
</section>
{% for each in details %}<section class="wide"><h2>{{ each.name }}</h2>
<p>{{ each.source }}</p>
{% call box("Moves of " ~ each.name) %}<table><thead><tr><th></th><th>move</th><th>by</th></tr>
</thead><tbody>{% for row in each.moves %}<tr><th scope="row">{{ row[0] }}</th><td>{{ row[1] }}</td>
<td>{{ row[2] }}</td></tr>{% endfor %}</tbody></table>{% endcall %}
{% if each.liquidations %}<h3>What the broker closes, in order</h3>
{% call box("Liquidations of " ~ each.name, each.liquidations | length > 20) %}<table><thead><tr>
<th></th><th>at</th><th>quantity</th><th>price</th><th>proceeds</th><th>costs</th></tr></thead>
<tbody>
{% for row in each.liquidations %}<tr><th scope="row">{{ row[0] }}</th>
{% for cell in row[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}
</tbody></table>{% endcall %}
{% endif %}<p class="muted">The nights until then cost {{ each.carrying }} beside that: interest,
borrowing and rounding.</p></section>{% endfor %}
</div>
"""

_PAGE = (
    '{% extends "frame" %}{% block title %}Stress{% endblock %}{% block head %}'
    + content_policy()
    + "{% endblock %}{% block style %}"
    + _STYLE
    + "{% endblock %}{% block body %}"
    + SHEET_MACROS
    + _BODY
    + "{% endblock %}"
)


def stress_page(found: Stress) -> str:
    """The page."""
    bad = any(outcome.wiped_out or outcome.settled.called for outcome in found.outcomes)
    verdict = Verdict("bad" if bad else "open", claim(found), consequence(found))
    return render_page(
        _PAGE,
        held=held_text(found),
        verdict=verdict,
        notes=remarks(found),
        heads=HEADS,
        rows=[_cells(found, outcome) for outcome in found.outcomes],
        rules=RULES,
        names=[outcome.scenario.name for outcome in found.outcomes],
        losses=_loss_rows(found),
        details=[_details(found, outcome) for outcome in found.outcomes],
    )


def _details(found: Stress, outcome: Outcome) -> dict[str, Any]:
    moves = outcome.moves
    rows = zip(found.book.symbols, moves.fractions.tolist(), moves.basis, strict=True)
    return {
        "name": outcome.scenario.name,
        "source": source_text(found, outcome),
        "moves": [(symbol, f"{move:+.2%}", basis) for symbol, move, basis in rows],
        "liquidations": [
            (
                each.symbol,
                utc_text(each.at),
                f"{each.quantity:+,.10g}",
                f"{each.price:,.4f}",
                usd_text(came),
                usd_text(cost),
            )
            for each, came, cost in liquidation_rows(outcome)
        ],
        "carrying": usd_text(outcome.carrying),
    }
