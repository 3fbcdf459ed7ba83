"""What several ways to play came to, a row each: on a page, in a terminal, as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from event_contracts.trading.position_sizes import PositionSizeMetrics
from event_contracts.trading.size_section import SIZE_MACRO, SIZE_STYLE, SizeView
from foundation.charts import CHART_MACRO, CHART_STYLE
from foundation.command import Result
from foundation.page import render_page

SIZE_HEADS = ("winning size", "losing size", "size, profit", "largest", "changes")

_TEMPLATE = (
    '{% extends "frame" %}{% block title %}{{ report.title }}{% endblock %}'
    "{% block style %}:root { --quiet: #667085; --rule: #e3e7ee; --first: #2456c8;"
    " --second: #0b7a4b; --limit: #b4540a } td { white-space: nowrap }"
    " .answer { font-size: 1.1rem } .scrolled { overflow-x: auto }"
    " .scrolled td, .scrolled th { padding: .25rem .4rem }"
    " .scrolled tr:first-child th { max-width: 6rem; vertical-align: bottom }"
    " .range { display: block; font-size: .8rem; color: var(--quiet) }"
    + CHART_STYLE
    + SIZE_STYLE
    + "{% endblock %}{% block body %}"
    + CHART_MACRO
    + SIZE_MACRO
    + """
<h1>{{ report.title }}</h1>
<p class="muted">{{ report.source }}</p>
{% for sentence in report.sentences %}<p class="remark answer">{{ sentence }}</p>{% endfor %}
<div class="scrolled"><table><tr><th scope="col">played</th>
{% for head in report.heads %}<th scope="col">{{ head }}</th>{% endfor %}</tr>
{% for name, cells in report.rows.items() %}<tr><th scope="row">{{ name }}</th>
{% for cell in cells %}{% set figure, _, range = cell.partition(" ") %}<td>{{ figure }}
{%- if range %}<span class="range">{{ range }}</span>{% endif %}</td>{% endfor %}</tr>{% endfor %}
</table></div>
{% for note in report.notes %}<p class="muted">{{ note }}</p>{% endfor %}
{% for name, view in report.views.items() %}<section><h2>Sizes: {{ name }}</h2>
{% if view %}{{ sized(view) }}{% else %}<p class="muted">No order was sent.</p>{% endif %}
</section>{% endfor %}
{% endblock %}"""
)


@dataclass(frozen=True, eq=False, slots=True)
class SizeReport:
    """What is said of several ways to play the same.

    title: of its page.
    source: what was played, in words.
    sentences: what was found.
    heads: of the table's columns.
    rows: cells of each way to play, one for each head: a figure, and its range after a space.
    notes: what has to be known to read the table.
    views: sizes of each way to play; none where no order was sent.
    content: everything but the plots, as JSON writes it.
    """

    title: str
    source: str
    sentences: tuple[str, ...]
    heads: tuple[str, ...]
    rows: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    views: Mapping[str, SizeView | None]
    content: Mapping[str, Any]

    def page(self) -> str:
        """One self-contained page."""
        return render_page(_TEMPLATE, report=self)

    def result(self) -> Result:
        """The table, the sentences and the notes; the JSON file and the page."""
        table = Table("played", *self.heads, title=self.source)
        for name, cells in self.rows.items():
            table.add_row(name, *cells)
        text = json.dumps(self.content, indent=1, allow_nan=False) + "\n"
        page = self.page()
        files: dict[str, Callable[[Path], object]] = {
            "comparison.json": lambda path: path.write_text(text, encoding="utf-8"),
            "comparison.html": lambda path: path.write_text(page, encoding="utf-8"),
        }
        return Result([table], [*self.sentences, *self.notes], files)


def size_cells(sizes: PositionSizeMetrics) -> tuple[str, ...]:
    """A cell for each of `SIZE_HEADS`; the histogram shows how many orders each size had."""
    return tuple(text for _, text in sizes.rows()[1:])
