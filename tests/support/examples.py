"""The files of examples/ and the commands in them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def commands_in(text: str) -> list[list[str]]:
    """The words of every command in a text, lines that end with a backslash joined."""
    plain = re.sub(r"^#", "", text, flags=re.MULTILINE)
    whole = re.sub(r"\\\n\s*", "", plain)
    lines = (line.strip() for line in whole.splitlines())
    return [shlex.split(line) for line in lines if line.startswith(".venv/bin/")]


def example_text(name: str) -> str:
    """A file as its reader sees it: a notebook's cells without their JSON."""
    text = (EXAMPLES / name).read_text()
    if not name.endswith(".ipynb"):
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
