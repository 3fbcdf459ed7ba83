"""Pages: self-contained HTML from templates in the packages that own the pages."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from foundation.tables import Table

if TYPE_CHECKING:
    from jinja2 import Template

CHART_STYLES = ("foundation/uPlot.min.css", "foundation/charts.css")
CHART_SCRIPTS = ("foundation/uPlot.iife.min.js", "foundation/charts.js")


def read_asset(name: str) -> str:
    """Return the text of a template, style or script; name: PACKAGE/FILE, in `templates`."""
    package, file = name.split("/")
    return (files(package) / "templates" / file).read_text(encoding="utf-8")


def style(*names: str) -> Markup:
    return Markup("".join(read_asset(name) for name in names))


def content_policy(*scripts: str) -> Markup:
    """Return the tag that forbids a page to fetch anything or run other scripts than these.

    It also blocks code in the texts among a page's values.

    scripts: names as in `read_asset`.
    """
    digests = [hashlib.sha256(read_asset(name).encode()).digest() for name in scripts]
    sources = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    allowed = f"; script-src {sources}" if scripts else ""
    return Markup(
        '<meta http-equiv="Content-Security-Policy"'
        f" content=\"default-src 'none'; style-src 'unsafe-inline'{allowed}\">"
    )


def script(*names: str) -> Markup:
    """Return the tags of scripts, which the page's policy has to allow."""
    return Markup("".join(f"<script>{read_asset(name)}</script>" for name in names))


def render_page(name: str, **values: Any) -> str:
    """Return the page, or the part of one, from a Jinja template; name: as in `read_asset`.

    Text values are escaped.
    """
    return _template(name).render(**values)


def table_html(table: Table) -> Markup:
    """Return a table as a part of a page that includes `foundation/sheet.css`."""
    return Markup(_template("foundation/sheet.html.j2").module.tabled(table))  # type: ignore[attr-defined]


@lru_cache(maxsize=16)
def _template(name: str) -> Template:
    """Return a compiled template; compiling takes longer than filling it in.

    A name without a value is an error.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    loader = FunctionLoader(read_asset)
    made = Environment(autoescape=True, loader=loader, undefined=StrictUndefined)
    made.globals |= {
        "style": style,
        "script": script,
        "policy": content_policy,
        "read_asset": read_asset,
    }
    made.globals |= {"chart_styles": CHART_STYLES, "chart_scripts": CHART_SCRIPTS}
    return made.get_template(name)
