"""Rendering of self-contained HTML pages from Jinja templates.

Each package has the templates of its own pages in its folder `templates`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from foundation.charts import Chart
from foundation.shell import format_command
from foundation.tables import Table

if TYPE_CHECKING:
    from jinja2 import Template

CHART_STYLES = ("foundation/uPlot.min.css", "foundation/charts.css")
CHART_SCRIPTS = ("foundation/uPlot.iife.min.js", "foundation/charts.js")


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a page by the template `foundation/page.html.j2`.

    title: heading.
    parts: charts, tables and sentences in order. A mapping from a label to named charts shows one
        of the charts at a time.
    note: explanation below the parts.
    is_wide: whether the section takes the page's whole width.
    """

    title: str
    parts: Sequence[Chart | Table | str | Mapping[str, Sequence[tuple[str, Chart]]]]
    note: str = ""
    is_wide: bool = True


def read_asset(name: str) -> str:
    """Return the text of a template, style sheet or script.

    name: PACKAGE/FILE, in the folder `templates` of the package.
    """
    package, file = name.split("/")
    return (files(package) / "templates" / file).read_text(encoding="utf-8")


def read_styles(*names: str) -> Markup:
    return Markup("".join(read_asset(name) for name in names))


def build_content_policy_tag(*scripts: str) -> Markup:
    """Return a Content-Security-Policy tag that blocks network requests, and all but these scripts.

    The tag also blocks script code in the values of a page.

    scripts: names as in `read_asset`.
    """
    digests = [hashlib.sha256(read_asset(name).encode()).digest() for name in scripts]
    sources = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    allowed = f"; script-src {sources}" if scripts else ""
    return Markup(
        '<meta http-equiv="Content-Security-Policy"'
        f" content=\"default-src 'none'; style-src 'unsafe-inline'{allowed}\">"
    )


def build_script_tags(*names: str) -> Markup:
    """Return script tags; the content policy of the page must allow these scripts."""
    return Markup("".join(f"<script>{read_asset(name)}</script>" for name in names))


def escape_single_quotes(text: str) -> Markup:
    """Escape text for an attribute in single quotes; double quotes, as in JSON, remain."""
    for character, reference in (("&", "&amp;"), ("<", "&lt;"), ("'", "&#39;")):
        text = text.replace(character, reference)
    return Markup(text)


def render_page(name: str, **values: Any) -> str:
    """Return the HTML of a Jinja template for a page, or for a part of a page; text is escaped.

    name: name of the template, as in `read_asset`.
    values: values of the template's variables.
    """
    return _load_template(name).render(**values)


def render_table(table: Table) -> Markup:
    """Return a table as HTML for a page that includes `foundation/sheet.css`."""
    return Markup(_load_template("foundation/sheet.html.j2").module.tabled(table))  # type: ignore[attr-defined]


@lru_cache(maxsize=16)
def _load_template(name: str) -> Template:
    """Return a compiled template, cached because compiling takes longer than rendering.

    A variable without a value is an error.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    loader = FunctionLoader(read_asset)
    made = Environment(autoescape=True, loader=loader, undefined=StrictUndefined)
    made.globals |= {
        "style": read_styles,
        "script": build_script_tags,
        "policy": build_content_policy_tag,
        "read_asset": read_asset,
        "single_quoted": escape_single_quotes,
        "command": format_command,
    }
    made.globals |= {"chart_styles": CHART_STYLES, "chart_scripts": CHART_SCRIPTS}
    return made.get_template(name)
