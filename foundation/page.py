"""The frame of every report: one self-contained HTML page, its plots within it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from jinja2 import DictLoader, Environment, Template

FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
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


def render_page(template: str, **values: Any) -> str:
    """The page of a Jinja template that extends `frame` (blocks title, style and body).

    Text among the values is escaped.
    """
    return _compiled(template).render(**values)


@lru_cache(maxsize=16)
def _compiled(template: str) -> Template:
    """The template of a text: to compile it takes longer than to fill it in."""
    frames = DictLoader({"frame": FRAME})
    return Environment(autoescape=True, loader=frames).from_string(template)


def embedded_plot(figure: Any) -> str:
    """A plotly figure as HTML within a page, the library it needs included."""
    return str(figure.to_html(full_html=False, include_plotlyjs="inline"))
