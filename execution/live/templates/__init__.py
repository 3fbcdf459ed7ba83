"""An account's page in parts: the template, its style, and the one script that it runs."""

from __future__ import annotations

from pathlib import Path

PAGE = "status.html"  # its name in the account's folder


def _text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


TEMPLATE = _text("status.html.j2")
STYLE = _text("status.css")
SCRIPT = _text("status.js")
