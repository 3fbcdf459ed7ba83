"""The frame of every report: one self-contained HTML page."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from typing import Any

from jinja2 import DictLoader, Environment, Template

from foundation.charts import CHART_MACRO

FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{% block head %}{% endblock %}
<title>{% block title %}{% endblock %}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem;
  color: #1c2430 }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
td, th { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #e3e7ee }
td:first-child, th:first-child { text-align: left }
.remark { background: #fff5d6; padding: .5rem .9rem; border-radius: 4px }
.muted { color: #667085 } .good { color: #15803d } .bad { color: #b42318 }
{% block style %}{% endblock %}
</style></head><body>
{% block body %}{% endblock %}
</body></html>
"""


# Colours of pages that follow the reader's setting, light or dark.
COLOURS = """
:root { color-scheme: light dark; --ink: #1c2430; --quiet: #5b6675; --rule: #dde2ea;
  --ground: #fff; --card: #f7f9fc; --first: #2456c8; --second: #0b7a4b; --third: #c2700c;
  --fourth: #7a3cc0; --fifth: #0d7f93; --sixth: #b0287a;
  --limit: #b42318; --good: #12702f; --bad: #b42318; --warn: #8a4b00; --good-ground: #e4f5e9;
  --bad-ground: #fdeae7; --warn-ground: #fff3d6; --info-ground: #e6edfb; --shade: #1c24304d }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9f1; --quiet: #a3aebd; --rule: #2d3644; --ground: #0e131b; --card: #161c26;
    --first: #82a9ff; --second: #4fcf94; --third: #f0a35e; --limit: #ff9a8d; --good: #6fd393;
    --fourth: #c79bff; --fifth: #5ccfe2; --sixth: #ff8cc6;
    --bad: #ff9a8d; --warn: #f3bd6a; --good-ground: #12301d; --bad-ground: #3a1613;
    --warn-ground: #33260b; --info-ground: #17253f; --shade: #e4e9f166 }
}
body { color: var(--ink); background: var(--ground) }
td, th { border-color: var(--rule) }
.muted { color: var(--quiet) } .good { color: var(--good) } .bad { color: var(--bad) }
.remark { background: var(--warn-ground); color: var(--ink) }
"""

# Cards, a verdict on top, warnings, and tables that scroll by themselves. A shade stands at the
# edge that a table goes on beyond; what covers it scrolls with the table, to its end.
SHEET = """
* { box-sizing: border-box }
body { max-width: 1120px; margin: 0 auto; padding: 1.2rem 1rem 3rem; overflow-wrap: break-word }
h1 { margin: 0; font-size: 1.3rem } h2 { margin: 0 0 .5rem } p { margin: .35rem 0 }
h3 { font-size: .92rem; margin: 1rem 0 .4rem } a { color: var(--first) }
.grid { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 1rem;
  margin-top: 1rem }
.grid section { background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 1rem; min-width: 0 } .wide { grid-column: 1 / -1 }
.verdict { border-left: 6px solid; border-radius: 10px; padding: .8rem 1rem; margin-top: 1rem }
.verdict.good { background: var(--good-ground) } .verdict.bad { background: var(--bad-ground) }
.verdict.open { background: var(--info-ground); color: var(--first) }
.verdict p { color: var(--ink) } .verdict .claim { font-size: 1.15rem; font-weight: 650; margin: 0 }
.warnings { background: var(--warn-ground); border-radius: 10px; padding: .7rem 1rem;
  margin: 1rem 0 0; list-style: none } .warnings li { padding: .15rem 0 .15rem 1.4rem;
  text-indent: -1.4rem } .warnings li::before { content: "⚠"; display: inline-block; width: 1.4rem;
  text-indent: 0; color: var(--warn) }
.notes { margin: .8rem 0 0; padding-left: 1.2rem; color: var(--quiet); font-size: .9rem }
.box { overflow: auto; max-width: 100%; background: var(--beyond-left), var(--beyond-right),
  var(--shade-left), var(--shade-right); background-attachment: local, local, scroll, scroll;
  background-repeat: no-repeat; background-size: 2.5rem 100%, 2.5rem 100%, .9rem 100%, .9rem 100%;
  --beyond-left: linear-gradient(to right, var(--card) 40%, transparent) left;
  --beyond-right: linear-gradient(to left, var(--card) 40%, transparent) right;
  --shade-left: linear-gradient(to right, var(--shade), transparent) left;
  --shade-right: linear-gradient(to left, var(--shade), transparent) right }
.box.tall { max-height: 40rem } .box.tall table { margin-top: 0 }
.box:focus-visible { outline: 2px solid var(--first) }
table { width: 100%; margin: .3rem 0 0; font-size: .88rem } td, th { padding: .28rem .55rem;
  vertical-align: top } th { font-weight: 400 } thead th { color: var(--quiet); font-weight: 600;
  vertical-align: bottom } .tall thead th { position: sticky; top: 0; background: var(--card) }
tbody th { text-align: left } td { white-space: nowrap } .range { display: block;
  font-size: .8rem; color: var(--quiet) } summary { cursor: pointer; color: var(--first) }
.legend { margin: .2rem 0 .8rem; font-size: .85rem }
@media (max-width: 800px) { .grid { grid-template-columns: minmax(0, 1fr) }
  body { padding: .8rem .6rem 2rem } .grid section { padding: .8rem .7rem }
  td, th { padding: .28rem .35rem } table { font-size: .82rem } }
@media print { .box.tall { max-height: none } }
"""

SHEET_MACROS = """
{% macro box(label, tall=False) %}
<div class="box{{ ' tall' if tall }}" role="region" tabindex="0" aria-label="{{ label }}">
{{ caller() }}</div>{% endmacro %}
{% macro top(verdict, warnings, notes=()) %}
<section class="verdict {{ verdict.level }}" aria-label="Verdict">
<p class="claim">{{ verdict.claim }}</p><p>{{ verdict.rest }}</p></section>
{% if warnings %}<ul class="warnings" aria-label="Warnings">
{% for warning in warnings %}<li>{{ warning }}</li>{% endfor %}</ul>{% endif %}
{% if notes %}<ul class="notes">
{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>{% endif %}
{% endmacro %}
"""


def content_policy(script: str = "") -> str:
    """The tag by which a page fetches nothing and runs nothing but this script, whatever a text
    among its values has brought into it.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"; script-src 'sha256-{digest}'" if script else ""
    return (
        '<meta http-equiv="Content-Security-Policy"'
        f" content=\"default-src 'none'; style-src 'unsafe-inline'{allowed}\">"
    )


def around(reach: float | None, form: str) -> str:
    """How far an interval reaches on either side, as ± 2.0%; empty where there is none."""
    return "" if reach is None else f" ± {reach:{form}}"


def render_page(template: str, **values: Any) -> str:
    """The page of a Jinja template that extends `frame` (blocks head, title, style, body).

    It may import what `sheet` and `charts` offer. Text among the values is escaped.
    """
    return _compiled(template).render(**values)


@lru_cache(maxsize=16)
def _compiled(template: str) -> Template:
    """The template of a text: to compile it takes longer than to fill it in."""
    frames = DictLoader({"frame": FRAME, "sheet": SHEET_MACROS, "charts": CHART_MACRO})
    return Environment(autoescape=True, loader=frames).from_string(template)
