"""Whether a file of the name that a command gives its own was really written by it.

A name alone says nothing: others call their files summary.json, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

# By the file that each run of a command leaves: keys, or columns, that it has whatever was run. One
# of the lists is enough.
CONTENT: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "summary.json": (("total_return", "comparisons"),),
    "evaluation.json": (("forecaster", "groups"),),
    "comparison.json": (
        ("variants", "overfitting"),  # before runs of any kind had one form
        ("verdict", "runs"),
        ("policies", "groups"),  # before event contracts had that form
        ("as_decided",),
        ("runs", "answers"),
        ("runs", "decisions"),
    ),
    "monte_carlo*.json": (("trades", "starting_capital"), ("check", "months")),
    "spreads.json": (("index", "strategies"),),
    "smile.json": (("smile", "standard_errors"),),
    "replay.json": (("instants", "equity"),),
    "stress.json": (("book", "scenarios"),),
    "training.json": (("model", "steps"),),
    "[0-9][0-9][0-9][0-9]-[0-9][0-9].parquet": (("symbol", "issued_at", "step", "target_at"),),
    "*.parquet": (("timestamp", "open", "close"),),
    "*.json": (("context_length",), ("augmentation",), ("model",)),
}


def is_of_an_earlier_run(path: Path, mark: str) -> bool:
    """Whether a file holds what a command writes under its name.

    mark: the name, or its pattern; of one that is not in `CONTENT` any content is.
    """
    wanted = CONTENT.get(mark)
    # A folder in the place of a file is refused by whoever writes the file, in words of its own.
    if wanted is None or path.is_dir():
        return True
    found = _columns(path) if path.suffix == ".parquet" else _keys(path)
    return any(found.issuperset(names) for names in wanted)


def _keys(path: Path) -> frozenset[str]:
    """The keys of a JSON object; none of anything else."""
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return frozenset()
    return frozenset(map(str, content)) if isinstance(content, dict) else frozenset()


def _columns(path: Path) -> frozenset[str]:
    """The columns of a Parquet file; none of anything else."""
    from pyarrow import ArrowException, parquet

    try:
        return frozenset(parquet.read_schema(path).names)
    except (OSError, ArrowException):
        return frozenset()
