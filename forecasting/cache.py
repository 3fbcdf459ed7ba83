"""What is kept of forecasts: list it, prune it.

    python -m forecasting.cache list | prune [--folder DIR] [--unused-days N]

--folder DIR       of the cache; none: the one that configs/batch.yaml names
--unused-days N    prune: also remove what no run has used for so many days

`forecasting.store` says how it is kept.
"""

from __future__ import annotations

from foundation.opening import open_command

if __name__ == "__main__":
    open_command("forecasting.cache", __doc__)

import json
import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecasting.calibration.kept import folder_of_code
from forecasting.store import LESSONS, shelves
from foundation.command import Parser, one_line_errors
from foundation.counts import counted
from foundation.errors import InputError
from foundation.terminal import terminal

if TYPE_CHECKING:
    from rich.table import Table

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


def main() -> None:
    """Command line: list, prune."""

    from foundation.compose import composed_config

    parser = Parser()
    parser.add_argument("command", choices=("list", "prune"))
    configured = Path(composed_config("batch", []).forecaster.cache)
    parser.add_argument("--folder", type=Path, default=configured)
    parser.add_argument("--unused-days", type=float)
    arguments = parser.parse_args()
    with one_line_errors("the cache is whole; prune again to go on"):
        folder = arguments.folder.expanduser()
        unused_days: float | None = arguments.unused_days
        # Compared the other way round, nan would remove nothing and say nothing.
        if unused_days is not None and not unused_days >= 0:
            raise InputError(f"--unused-days: {unused_days} is no number of days")
        if not folder.is_dir():
            raise InputError(f"--folder: {folder} is no folder; nothing is kept there")
        console = terminal(200)
        if arguments.command == "list":
            console.print(_shelf_table(folder))
        else:
            done = prune(folder, unused_days)
            shelves_gone = counted(done.pop("shelves"), "shelf", "shelves")
            counts = (f"{count:,} {kind}" for kind, count in done.items())
            console.print(", ".join([shelves_gone, *counts]), highlight=False)


def _shelf_table(folder: Path) -> Table:
    from rich.table import Table

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


if __name__ == "__main__":
    main()
