"""What tests read from pages: their text, the data of their charts and the scripts they may run."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from typing import Any

from foundation.page import CHART_SCRIPTS, read_asset

SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def charts_of(page: str) -> list[dict[str, Any]]:
    """The data of each chart, with the x of every series written out."""
    found = [json.loads(html.unescape(text)) for text in re.findall(r"data-chart='([^']*)'", page)]
    for chart in found:
        x: list[float] = []
        for series in chart["series"]:
            if "x" in series:
                x = series["x"]
                if chart["zone"]:
                    x = [sum(x[: k + 1]) for k in range(len(x))]
            series["x"] = x
    return found


def without_scripts(page: str, *ours: str) -> str:
    """A page that runs these scripts and those of charts, which its policy names and no others."""
    scripts = SCRIPT.findall(page)
    assert sorted(scripts) == sorted(read_asset(name) for name in (*ours, *CHART_SCRIPTS))
    digests = {hashlib.sha256(text.encode()).digest() for text in scripts}
    policy = re.search(r'content="default-src \'none\'; style-src [^;]*; script-src ([^"]*)"', page)
    assert policy is not None
    allowed = {f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests}
    assert set(policy[1].split()) == allowed
    return re.sub(r"<!-- uPlot.*?-->", "", SCRIPT.sub("", page), flags=re.DOTALL)


def text_of(page: str) -> str:
    """What a reader sees of a page, in one line."""
    body = re.sub(r"<(style|script)>.*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(body).split())
