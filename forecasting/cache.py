"""What is kept of forecasts: list it, verify it, prune it.

    python -m forecasting.cache list | verify | prune [--folder DIR] [--unused-days N]

`forecasting.store` says how it is kept.
"""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from forecasting import forecast_file
from forecasting.store import join, shelves
from foundation.command import Parser, fail
from foundation.errors import DataError, InputError

log = logging.getLogger(__name__)

UNFINISHED = 3600  # seconds after which a file still being written is taken for a killed run's


def listed(cache: Path) -> Iterator[dict[str, Any]]:
    """A row a shelf: what its forecasts depend on, months, files, forecasts, bytes, last use."""
    for shelf, specification in shelves(cache):
        files = shelf.files()
        rows = 0
        for path in files:
            try:
                rows += forecast_file.count(path)
            except DataError as error:
                log.warning("%s", error)
        used = datetime.fromtimestamp((shelf.folder / "specification.json").stat().st_mtime, UTC)
        yield {
            "shelf": shelf.folder.name,
            "weights": str(specification.get("weights", "?"))[:12],
            **{
                k: specification.get(k, "?")
                for k in ("implementation", "context_length", "dtype", "augmentation", "group")
            },
            "computed": specification.get("computed", ""),
            "months": len({f.parent for f in files}),
            "files": len(files),
            "forecasts": rows,
            "bytes": sum(f.stat().st_size for f in files),
            "used": used,
        }


def prune(cache: Path, unused_days: float | None = None) -> dict[str, int]:
    """Remove shelves not used for so many days, damaged and misplaced files and what killed runs
    left; join each month's files.

    How many of each: shelves, damaged, misplaced, unfinished, joined.
    """
    done = {"shelves": 0, "damaged": 0, "misplaced": 0, "unfinished": 0, "joined": 0}
    now = time.time()
    for shelf, _ in list(shelves(cache)):
        if (
            unused_days is not None
            and now - (shelf.folder / "specification.json").stat().st_mtime > unused_days * 86_400
        ):
            shutil.rmtree(shelf.folder)
            done["shelves"] += 1
            continue
        for part in shelf.folder.rglob(".*.part"):
            if now - part.stat().st_mtime > UNFINISHED:
                part.unlink(missing_ok=True)
                done["unfinished"] += 1
        for _, month in groupby(shelf.files(), key=lambda path: path.parent):
            whole = []
            for path in month:
                fault = forecast_file.fault(path)
                if fault is None:
                    whole.append(path)
                else:
                    path.unlink(missing_ok=True)
                    done[fault] += 1
            done["joined"] += join(shelf, whole)
    return done


def main() -> None:
    """Command line: list, verify, prune."""
    from rich.console import Console
    from rich.table import Table

    from foundation.compose import composed

    parser = Parser(prog="python -m forecasting.cache", description="The cache of forecasts.")
    parser.add_argument("command", choices=("list", "verify", "prune"))
    kept = Path(composed("batch", []).forecaster.cache)
    parser.add_argument(
        "--folder", type=Path, default=kept, help="default: the configured one, %(default)s"
    )
    parser.add_argument(
        "--unused-days", type=float, help="prune: also remove what no run has used for so many days"
    )
    words = parser.parse_args()
    folder = words.folder.expanduser()
    if words.unused_days is not None and words.unused_days < 0:
        fail(InputError(f"--unused-days: {words.unused_days} is below 0"))
    if not folder.is_dir():
        fail(InputError(f"--folder: {folder} is no folder; nothing is kept there"))
    console = Console(width=None if sys.stdout.isatty() else 200)
    if words.command == "list":
        about = (
            "shelf",
            "weights",
            "version",
            "context",
            "dtype",
            "augmentation",
            "group",
            "computed",
        )
        table = Table(*about, "months", "files", "forecasts", "MB", "used")
        for row in listed(folder):
            *texts, size, used = row.values()
            table.add_row(
                *(f"{t:,}" if isinstance(t, int) else str(t) for t in texts),
                f"{size / 1e6:,.1f}",
                f"{used:%Y-%m-%d %H:%M}",
            )
        console.print(table)
    elif words.command == "verify":
        files = [f for shelf, _ in shelves(folder) for f in shelf.files()]
        faults = [(fault, f) for f in files if (fault := forecast_file.fault(f)) is not None]
        for fault, path in faults:
            console.print(f"{fault}: {path}", highlight=False, soft_wrap=True)
        counts = [
            f"{sum(fault == what for fault, _ in faults)} {what}"
            for what in ("damaged", "misplaced")
        ]
        console.print(
            f"{len(files)} files, {', '.join(counts)}" + ("; prune removes them" if faults else "")
        )
        sys.exit(1 if faults else 0)
    else:
        done = prune(folder, words.unused_days)
        console.print(", ".join(f"{count} {what}" for what, count in done.items()), highlight=False)


if __name__ == "__main__":
    main()
