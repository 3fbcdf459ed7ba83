"""What is kept of forecasts: list it, verify it, prune it.

    python -m forecasting.cache list | verify | prune [--folder DIR] [--unused-days N]

--folder DIR       of the cache; none: the one that configs/batch.yaml names
--unused-days N    prune: also remove what no run has used for so many days

`forecasting.store` says how it is kept.
"""

from __future__ import annotations

from foundation.opening import open_command

if __name__ == "__main__":
    open_command("forecasting.cache", __doc__)

import logging
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecasting import cache_file
from forecasting.calibration.kept import folder_of_code
from forecasting.store import LESSONS, shelves
from foundation.command import Parser, one_line_errors
from foundation.counts import counted
from foundation.errors import DataError, InputError
from foundation.terminal import terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

log = logging.getLogger(__name__)

UNFINISHED = 3600  # seconds after which a file still being written is taken for a killed run's
ABOUT = ("implementation", "context_length", "dtype", "augmentation", "group")


def shelf_rows(cache: Path) -> Iterator[dict[str, Any]]:
    """A row a shelf: what its forecasts depend on, months, files, forecasts, bytes, last use."""
    for shelf, specification in shelves(cache):
        files = shelf.files()
        rows = 0
        for path in files:
            try:
                rows += cache_file.count(path)
            except DataError as error:
                log.warning("%s", error)
        used = datetime.fromtimestamp((shelf.folder / "specification.json").stat().st_mtime, UTC)
        yield {
            "shelf": shelf.folder.name,
            "weights": str(specification.get("weights", "?"))[:12],
            **{name: specification.get(name, "?") for name in ABOUT},
            "computed": specification.get("computed", ""),
            "months": len({path.parent for path in files}),
            "files": len(files),
            "forecasts": rows,
            "bytes": sum(path.stat().st_size for path in files),
            "used": used,
        }


def prune(cache: Path, unused_days: float | None = None) -> dict[str, int]:
    """Remove what is of no use.

    Of no use are shelves not used for so many days (none: all are kept), lessons that old or of
    other code, damaged files, and what killed runs have left.

    Returns how many of each: shelves, lessons, damaged, unfinished.
    """
    done = {"shelves": 0, "lessons": 0, "damaged": 0, "unfinished": 0}
    now = time.time()
    for lesson in cache.glob(f"{LESSONS}/*/*.npz"):
        is_old = unused_days is not None and now - lesson.stat().st_mtime > unused_days * 86_400
        if is_old or lesson.parent.name != folder_of_code():
            lesson.unlink(missing_ok=True)
            done["lessons"] += 1
    for shelf, _ in list(shelves(cache)):
        # Every run touches the specification of the shelves it opens.
        unused = now - (shelf.folder / "specification.json").stat().st_mtime
        if unused_days is not None and unused > unused_days * 86_400:
            shutil.rmtree(shelf.folder)
            done["shelves"] += 1
            continue
        for part in shelf.folder.rglob(".*.part"):
            if now - part.stat().st_mtime > UNFINISHED:
                part.unlink(missing_ok=True)
                done["unfinished"] += 1
        for path in shelf.files():
            if cache_file.is_damaged(path):
                path.unlink(missing_ok=True)
                done["damaged"] += 1
    return done


def main() -> None:
    """Command line: list, verify, prune."""

    from foundation.compose import composed_config

    parser = Parser()
    parser.add_argument("command", choices=("list", "verify", "prune"))
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
        elif arguments.command == "verify":
            sys.exit(1 if _print_damaged(folder, console) else 0)
        else:
            done = prune(folder, unused_days)
            shelves_gone = counted(done.pop("shelves"), "shelf", "shelves")
            counts = (f"{count:,} {kind}" for kind, count in done.items())
            console.print(", ".join([shelves_gone, *counts]), highlight=False)


def _shelf_table(folder: Path) -> Table:
    from rich.table import Table

    about = ("shelf", "weights", "version", "context", "dtype", "augmentation", "group", "computed")
    table = Table(*about, "months", "files", "forecasts", "MB", "used")
    for row in shelf_rows(folder):
        *cells, size, used = row.values()
        table.add_row(
            *(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells),
            f"{size / 1e6:,.1f}",
            f"{used:%Y-%m-%d %H:%M}",
        )
    return table


def _print_damaged(folder: Path, console: Console) -> bool:
    """A line a file that cannot be used, and their sum; whether there is one."""
    files = []
    for shelf, _ in shelves(folder):
        files += shelf.files()
    damaged = [path for path in files if cache_file.is_damaged(path)]
    for path in damaged:
        console.print(f"damaged: {path}", highlight=False, soft_wrap=True)
    remedy = "; prune removes them" if damaged else ""
    console.print(f"{counted(len(files), 'file')}, {len(damaged)} damaged{remedy}")
    return bool(damaged)


if __name__ == "__main__":
    main()
