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

import math
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from forecasting.calibration.kept import folder_of_code
from forecasting.store import FILES, LESSONS, facts
from foundation.command import Parser, one_line_errors
from foundation.counts import counted
from foundation.errors import InputError
from foundation.terminal import terminal

ABOUT = ("weights", "implementation", "context_length", "dtype", "augmentation", "group")


def shelf_rows(cache: Path) -> Iterator[dict[str, Any]]:
    """A row a shelf: what its forecasts depend on, what it holds, and its last use."""
    for folder in sorted({path.parent for path in cache.glob(f"*/{FILES}")}):
        held = facts(folder)
        said = held.pop("specification")
        about = {name: str(said.get(name, "?"))[:12] for name in ABOUT}
        used = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
        yield {"shelf": folder.name, **about, "computed": said.get("computed", ""), **held} | {
            "used": used
        }


def prune(cache: Path, unused_days: float | None = None) -> dict[str, int]:
    """Remove shelves and lessons not used for so many days, none of them by default.

    Lessons of other code are of no use and go as well. Returns how many of each.
    """
    last = -math.inf if unused_days is None else time.time() - unused_days * 86_400
    shelves = [row["shelf"] for row in shelf_rows(cache) if row["used"].timestamp() < last]
    for name in shelves:
        shutil.rmtree(cache / name)
    lessons = [
        path
        for path in cache.glob(f"{LESSONS}/*/*.npz")
        if path.stat().st_mtime < last or path.parent.name != folder_of_code()
    ]
    for path in lessons:
        path.unlink(missing_ok=True)
    return {"shelves": len(shelves), "lessons": len(lessons)}


def shelf_table(cache: Path) -> Any:
    """The rows for a terminal."""
    from rich.table import Table

    heads = ("shelf", *ABOUT, "computed", "portions", "forecasts", "MB", "used")
    table = Table(*(head.removesuffix("_length") for head in heads))
    for row in shelf_rows(cache):
        *cells, size, used = row.values()
        texts = [f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells]
        table.add_row(*texts, f"{size / 1e6:,.1f}", f"{used:%Y-%m-%d %H:%M}")
    return table


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
        folder, days = arguments.folder.expanduser(), arguments.unused_days
        # Compared the other way round, nan would remove nothing and say nothing.
        if days is not None and not days >= 0:
            raise InputError(f"--unused-days: {days} is no number of days")
        if not folder.is_dir():
            raise InputError(f"--folder: {folder} is no folder; nothing is kept there")
        console = terminal(200)
        if arguments.command == "list":
            console.print(shelf_table(folder))
        else:
            done = prune(folder, days)
            shelves = counted(done["shelves"], "shelf", "shelves")
            lessons = counted(done["lessons"], "lesson")
            console.print(f"{shelves}, {lessons} removed", highlight=False)


if __name__ == "__main__":
    main()
