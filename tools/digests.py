"""Digests of what seven runs write, a digest for each column of each file, to compare two commits.

    python tools/digests.py OUT [--data DIR] [--against OTHER/digests.json]

OUT takes the runs' folders and digests.json. DIR holds real bars in the folders `hourly_stock`,
`hourly_crypto` and `daily`; without it the three runs that need them are left out. Numbers are
compared to nine significant digits. Exits with 1 if any column differs or is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

HOURLY = (
    "data.dir=[{data}/hourly_stock,{data}/hourly_crypto]",
    "start=2024-07-01",
    "end=2025-06-30",
)
RUNS: dict[str, tuple[str, ...]] = {
    "default": ("marketsimulator.backtest", "start=2024-01-02"),
    "spreads": ("option_spreads.backtest",),
    "monte_carlo": ("option_spreads.monte_carlo", "trades={out}/spreads/trades.csv"),
    "event_contracts": ("event_contracts.compare",),
    "hourly": ("marketsimulator.backtest", *HOURLY, "sizing.strategy=kelly_50_x4"),
    "risk_parity": ("marketsimulator.backtest", *HOURLY, "sizing.strategy=risk_parity"),
    "daily": ("marketsimulator.backtest", "data.dir=[{data}/daily]", "timeframe=1d"),
}
SIGNIFICANT_DIGITS = 9
UNCOMPARED_KEYS = {"seconds", "commit", "version", "created_at"}


def columns(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the digest of each column or key of the files in a results folder."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix in (".parquet", ".csv"):
            frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
            for column in frame:
                yield (
                    f"{name}:{column}",
                    digest([_rounded(each) for each in frame[column].tolist()]),
                )
        elif path.suffix == ".json":
            content = json.loads(path.read_text(encoding="utf-8"))
            for key, value in content.items() if isinstance(content, dict) else ():
                if key not in UNCOMPARED_KEYS:
                    yield f"{name}:{key}", digest(_rounded(value))


def digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, default=str).encode(), digest_size=6).hexdigest()


def _rounded(value: Any) -> Any:
    """Return a JSON value with numbers as text of nine significant digits."""
    if isinstance(value, float):
        return f"{value + 0.0:.{SIGNIFICANT_DIGITS}g}"
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items() if key not in UNCOMPARED_KEYS}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--against", type=Path)
    typed = parser.parse_args()
    found: dict[str, str] = {}
    for name, (module, *words) in RUNS.items():
        if typed.data is None and any("{data}" in word for word in words):
            continue
        settings = [word.format(data=typed.data, out=typed.out.absolute()) for word in words]
        subprocess.run(
            [sys.executable, "-m", module, *settings, f"output={typed.out.absolute() / name}"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        found |= {f"{name}/{column}": value for column, value in columns(typed.out / name)}
    (typed.out / "digests.json").write_text(json.dumps(found, indent=0), encoding="utf-8")
    before = found if typed.against is None else json.loads(typed.against.read_text("utf-8"))
    different = [key for key in sorted({*found, *before}) if found.get(key) != before.get(key)]
    sys.stdout.writelines(f"{each}\n" for each in different)
    sys.stdout.write(f"{len(different)} of {len(before)} columns differ\n")
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main())
