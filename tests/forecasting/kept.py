"""What lies in a cache of forecasts."""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any


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


def answered(path: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """What a file answers to somebody who knows how it is kept; it may change."""
    with closing(sqlite3.connect(path)) as file, file:
        return file.execute(statement, values).fetchall()
