"""What is kept of forecasts: listed, pruned."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from forecasting.calibration.kept import folder_of_code
from forecasting.store import FILES, FITS, facts
from foundation.tables import Table

ABOUT = ("weights", "implementation", "context_length", "dtype", "augmentation", "group")


def partition_rows(cache: Path) -> Iterator[dict[str, Any]]:
    """A row a partition: what its forecasts depend on, what it holds, and its last use."""
    for folder in sorted({path.parent for path in cache.glob(f"*/{FILES}")}):
        held = facts(folder)
        said = held.pop("specification")
        about = {name: str(said.get(name, "?"))[:12] for name in ABOUT}
        used = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
        yield {"partition": folder.name, **about, "computed": said.get("computed", ""), **held} | {
            "used": used
        }


def prune(cache: Path, unused_days: float | None = None) -> dict[str, int]:
    """Remove partitions and fits not used for so many days, none of them by default.

    Lessons of other code are of no use and go as well. Returns how many of each.
    """
    last = -math.inf if unused_days is None else time.time() - unused_days * 86_400
    partitions = [
        row["partition"] for row in partition_rows(cache) if row["used"].timestamp() < last
    ]
    for name in partitions:
        shutil.rmtree(cache / name)
    fits = [
        path
        for path in cache.glob(f"{FITS}/*/*.npz")
        if path.stat().st_mtime < last or path.parent.name != folder_of_code()
    ]
    for path in fits:
        path.unlink(missing_ok=True)
    return {"partitions": len(partitions), "fits": len(fits)}


def partition_table(cache: Path) -> Table:
    """The rows for a terminal."""
    heads = ("partition", *ABOUT, "computed", "portions", "forecasts", "MB", "used")
    rows = []
    for row in partition_rows(cache):
        *cells, size, used = row.values()
        texts = [f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells]
        rows.append((*texts, f"{size / 1e6:,.1f}", f"{used:%Y-%m-%d %H:%M}"))
    named = range(1, len(ABOUT) + 1)
    return Table("", [head.removesuffix("_length") for head in heads], rows, words=named)
