"""Tables as pages have them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown(heads: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """A line for every name and its cells, under heads that begin behind the names."""
    lines = ["| | " + " | ".join(heads) + " |", "| --- " * (1 + len(heads)) + "|"]
    lines += [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows]
    return "\n".join(lines)
