"""What lies in a cache of forecasts."""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing
from pathlib import Path


def files(folder: Path) -> list[Path]:
    """Its files."""
    return sorted(folder.rglob("*.sqlite"))


def content(folder: Path) -> dict[bytes, tuple[bytes, ...]]:
    """Every portion that is kept, by its name; each is as it was written."""
    kept = {}
    for path in files(folder):
        with closing(sqlite3.connect(path)) as file:
            # A file that is just being begun has no table yet.
            if not file.execute("SELECT 1 FROM sqlite_master WHERE name = 'portions'").fetchall():
                continue
            query = "SELECT name, issues, moments, quantiles FROM portions"
            for name, *parts in file.execute(query):
                assert all(zlib.crc32(part[:-4]).to_bytes(4) == part[-4:] for part in parts)
                kept[name] = tuple(parts)
    return kept


def specifications(folder: Path) -> list[str]:
    """What its files were computed with."""
    found = []
    for path in files(folder):
        with closing(sqlite3.connect(path)) as file:
            found += [
                text for (text,) in file.execute("SELECT DISTINCT specification FROM portions")
            ]
    return found


def changed(path: Path, statement: str) -> None:
    """Change a file as somebody would who knows how it is kept."""
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(statement)
