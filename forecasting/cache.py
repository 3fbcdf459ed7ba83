"""What is kept of forecasts: listed, pruned."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from forecasting.calibration.kept import folder_of_code
from forecasting.store import LESSONS, shelves

ABOUT = ("implementation", "context_length", "dtype", "augmentation", "group")


def shelf_rows(cache: Path) -> Iterator[dict[str, Any]]:
    """A row a shelf: what its forecasts depend on, what it holds, and its last use."""
    for shelf in shelves(cache):
        said: dict[str, Any] = json.loads(shelf.specification)
        yield {
            "shelf": shelf.folder.name,
            "weights": str(said.get("weights", "?"))[:12],
            **{name: said.get(name, "?") for name in ABOUT},
            "computed": said.get("computed", ""),
            **shelf.facts(),
            "used": datetime.fromtimestamp(shelf.folder.stat().st_mtime, UTC),
        }


def prune(cache: Path, unused_days: float | None = None) -> dict[str, int]:
    """Remove what is of no use.

    Of no use are shelves not used for so many days (none: all are kept), lessons that old or of
    other code, and what is damaged.

    Returns how many of each: shelves, lessons, damaged.
    """
    done = {"shelves": 0, "lessons": 0, "damaged": 0}

    def is_unused(path: Path) -> bool:
        days = (time.time() - path.stat().st_mtime) / 86_400
        return unused_days is not None and days > unused_days

    for lesson in cache.glob(f"{LESSONS}/*/*.npz"):
        if is_unused(lesson) or lesson.parent.name != folder_of_code():
            lesson.unlink(missing_ok=True)
            done["lessons"] += 1
    for shelf in list(shelves(cache)):
        if is_unused(shelf.folder):
            shutil.rmtree(shelf.folder)
            done["shelves"] += 1
        else:
            used = shelf.folder.stat()
            done["damaged"] += shelf.mend()
            os.utime(shelf.folder, ns=(used.st_atime_ns, used.st_mtime_ns))
    return done


def shelf_table(folder: Path) -> Table:
    """A row a shelf of a cache."""
    about = ("shelf", "weights", "version", "context", "dtype", "augmentation", "group", "computed")
    table = Table(*about, "months", "portions", "forecasts", "MB", "used")
    for row in shelf_rows(folder):
        *cells, size, used = row.values()
        table.add_row(
            *(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells),
            f"{size / 1e6:,.1f}",
            f"{used:%Y-%m-%d %H:%M}",
        )
    return table
