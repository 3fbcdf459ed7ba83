"""Digests of named runs, column by column, and what of them another version of the code moves.

    python tools/digests.py make OUT.json --runs FOLDER
        [--code CHECKOUT] [--data DIR] [--only NAME …]
    python tools/digests.py compare BEFORE.json AFTER.json

--runs FOLDER     in which every run has a folder of its own, which is emptied first
--code CHECKOUT   of the code that runs, with its .venv; this one unless another is named
--data DIR        of hourly_stock/, hourly_crypto/ and options/; beside the checkout unless named
--only NAME …     of runs; all without it

A column is one of a Parquet, CSV or SQLite table, or everything under one path of a JSON file. Its
digest holds the number of rows and the SHA-256 of its bytes; of numbers also three sums, by which
two columns can be held equal to 1e-12: of the values, of their sizes, and weighted by their place.
`compare` prints what is no longer equal and ends with 1 where there is any.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parents[1]
TRADES = HERE / "tests" / "fixtures" / "trades.csv"
TOLERANCE = 1e-12
SUMS = ("sum", "size", "weighted")
# What a machine, a folder or a moment puts into a result, by the last word of the column's name.
VOLATILE = frozenset(
    ("seconds", "output", "run", "account", "recorded_at", "began_at", "ended_at", "heard_at")
)
Column = dict[str, Any]  # rows, sha256, and of numbers: missing, and SUMS
Digests = dict[str, dict[str, dict[str, Column]]]  # by run, file and column


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run runs.

    code: checkout that runs. data: folder of bars. folder: of the run, its working folder.
    """

    code: Path
    data: Path
    folder: Path

    @property
    def python(self) -> str:
        """The interpreter of the checkout."""
        return str(self.code / ".venv" / "bin" / "python")

    @property
    def bars(self) -> str:
        """The setting that names the bars."""
        return f"data.dir=[{self.data / 'hourly_stock'},{self.data / 'hourly_crypto'}]"

    @property
    def environment(self) -> dict[str, str]:
        """One core, and no state or cache that another run has left."""
        own = {
            "OMP_NUM_THREADS": "1",
            "APCA_API_KEY_ID": "KEYKEYKEY",
            "APCA_API_SECRET_KEY": "SECRETSECRET",
            "XDG_STATE_HOME": str(self.folder / ".state"),
            "XDG_CACHE_HOME": str(self.folder / ".cache"),
        }
        return {**os.environ, **own}

    def started(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        """A command that runs; what it prints is in NAME.log."""
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [self.python, *words],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def done(self, name: str, *words: str) -> None:
        """A command that has ended well.

        Raises
        ------
        SystemExit
            where it has not, with the end of what it printed.
        """
        code = self.started(name, *words).wait()
        if code:
            said = (self.folder / f"{name}.log").read_text(errors="replace")
            raise SystemExit(
                f"{self.folder.name}: {' '.join(words)} ended with {code}:\n{said[-2000:]}"
            )


YEAR = ("start=2024-07-01", "end=2025-06-30")
QUARTER = ("start=2025-04-01", "end=2025-06-30")
SIX = "symbols=[NVDA,AAPL,SPY,BTCUSD,ETHUSD,SOLUSD]"
# Much borrowed, small room: shorts, calls and liquidations.
STRAINED = (
    *("forecaster=historical", "forecaster.calibrated=false", "sizing.strategy=legacy"),
    *("limits.overnight_leverage=4", "limits.overnight_buffer=0", "limits.symbol_cap=2"),
)


def backtest(*words: str) -> Callable[[Place], None]:
    """A backtest on all real bars."""
    return lambda place: place.done(
        "run", "-m", "marketsimulator.backtest", place.bars, "output=out", *words
    )


def sweep(place: Place) -> None:
    """Variants over the same forecasts."""
    vary = "vary={limits.symbol_cap:[0.3,0.6],sizing.fraction:[0.25,1.0]}"
    words = (place.bars, "forecaster=ewma", *QUARTER, vary, "output=out")
    place.done("run", "-m", "marketsimulator.compare", "strategies=[kelly_50]", *words)


def monte_carlo(place: Place) -> None:
    """Resampled trades of a file, which stays the same."""
    words = (f"trades={TRADES}", "runs=2000", "output=out")
    place.done("run", "-m", "option_spreads.monte_carlo", *words)


def spreads(place: Place) -> None:
    """Same-day spreads on the real index."""
    words = (
        f"bars.dir=[{place.data / 'hourly_stock'}]",
        f"bars.vix={place.data}/options/VIX_daily.parquet",
    )
    place.done("run", "-m", "option_spreads.backtest", *words, "output=out")


def event_contracts(place: Place) -> None:
    """Policies over the same synthetic sessions."""
    place.done("run", "-m", "event_contracts.compare", "sessions=20", "output=out")


def replay(place: Place) -> None:
    """Two weeks of stocks and coins over the wire."""
    with practice_server(place, "--start", "2024-10-07", "--end", "2024-10-18") as url:
        words = (*LIVE, SIX, f"broker.url_override={url}", "output=out")
        place.done("run", str(place.code / "trade_stock_e2e.py"), "mode=replay", *words)


def live_week(place: Place) -> None:
    """A week of the loop on paper, at the hours of stocks; the clock waits for every pass."""
    words = (*LIVE, "symbols=[NVDA,AAPL,SPY]", "mode=paper", "cycles=null")
    with practice_server(place, "--start", "2024-10-07", "--end", "2024-10-11") as url:
        script = str(place.code / "trade_stock_e2e.py")
        loop = place.started("run", script, *words, f"broker.url_override={url}")
        try:
            cycles = 0
            while advance(url)["moved"]:
                if is_instant_of_stocks(url):
                    cycles += 1
                    wait_for_cycles(place.folder, cycles, loop)
        finally:
            loop.terminate()
            loop.wait(60)


LIVE = ("forecaster=ewma", "bar_patience=0", "history_days=200")
RUNS: Mapping[str, Callable[[Place], None]] = {
    "default": backtest("forecaster=ewma", *YEAR),
    "raw": backtest("forecaster=ewma", "forecaster.calibrated=false", *YEAR),
    "chronos": backtest(SIX, "start=2025-06-01", "end=2025-06-30"),
    "strained": backtest(*STRAINED, "symbols=[NVDA,META,COST,XLK,BTCUSD]", *QUARTER),
    "sweep": sweep,
    "replay": replay,
    "live_week": live_week,
    "spreads": spreads,
    "monte_carlo": monte_carlo,
    "event_contracts": event_contracts,
}


@contextmanager
def practice_server(place: Place, *words: str) -> Iterator[str]:
    """The address of a practice server whose clock waits."""
    given = ("--symbols", *SIX[9:-1].split(","), "--port", str(free_port()))
    folders = (str(place.data / "hourly_stock"), str(place.data / "hourly_crypto"))
    server = place.started(
        *("server", "-m", "marketsimulator.alpaca_server", "--data-dir", *folders), *given, *words
    )
    try:
        yield address_of(place.folder / "server.log", server)
    finally:
        server.terminate()
        server.wait(60)


def free_port() -> int:
    """A port of this machine that nothing listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def address_of(log: Path, server: subprocess.Popen[bytes]) -> str:
    """What a server prints before the symbols, once it has."""
    while server.poll() is None:
        if ": " in (said := log.read_text()) and said.startswith("http"):
            return said.partition(": ")[0]
        time.sleep(0.1)
    raise SystemExit(f"the practice server has ended:\n{log.read_text()[-2000:]}")


def advance(url: str) -> dict[str, Any]:
    """Move a practice server's clock to its next instant."""
    request = urllib.request.Request(
        f"{url}/control/advance", b"{}", {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        state: dict[str, Any] = json.load(answer)
    return state


def is_instant_of_stocks(url: str) -> bool:
    """Whether the clock stands where a bar of stocks has ended and the next one begins."""
    head = {"APCA-API-KEY-ID": "K", "APCA-API-SECRET-KEY": "S"}
    with urllib.request.urlopen(
        urllib.request.Request(f"{url}/v2/clock", headers=head), timeout=60
    ) as answer:
        clock = json.load(answer)
    now = pd.Timestamp(clock["timestamp"]).tz_convert("America/New_York")
    return bool(clock["is_open"]) and now.minute == 30 and now.hour >= 10


def wait_for_cycles(folder: Path, number: int, loop: subprocess.Popen[bytes]) -> None:
    """Until so many cycles have ended in the journal.

    Raises
    ------
    SystemExit
        where the loop ends before that.
    """
    while loop.poll() is None:
        for journal in folder.glob("data/live/*/journal.sqlite"):
            address = f"{journal.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(address, uri=True, timeout=30)) as opened:
                query = "SELECT count(*) FROM cycles WHERE ended_at IS NOT NULL"
                try:
                    if opened.execute(query).fetchone()[0] >= number:
                        return
                except sqlite3.OperationalError:
                    pass  # its tables are just being made
        time.sleep(0.1)
    said = (folder / "run.log").read_text(errors="replace")
    raise SystemExit(f"the loop has ended before pass {number}:\n{said[-2000:]}")


def column_digest(values: Sequence[Any]) -> Column:
    """The digest of one column."""
    array = _numbers(values)
    if array is None:
        text = json.dumps([None if _is_missing(each) else str(each) for each in values])
        return {"rows": len(values), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    there = array[~np.isnan(array)]
    places = np.flatnonzero(~np.isnan(array)) + 1.0
    return {
        "rows": len(values),
        "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
        "missing": len(array) - len(there),
        "sum": math.fsum(there),
        "size": math.fsum(np.abs(there)),
        "weighted": math.fsum(there * places),
    }


def _numbers(values: Sequence[Any]) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """The values as little-endian float64, NaN for what is missing; None where one is no number."""
    whole = [math.nan if _is_missing(each) else each for each in values]
    if not all(isinstance(each, int | float | np.integer | np.floating) for each in whole):
        return None
    return np.asarray(whole, dtype="<f8")


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NaT or value is pd.NA or value != value


def table_digests(frame: pd.DataFrame) -> dict[str, Column]:
    """Digests of a table's columns; an instant counts as its text, whatever its unit."""
    columns = {}
    for name in frame.columns:
        series = frame[name]
        if str(series.dtype).startswith("datetime"):
            series = series.astype("datetime64[ns, UTC]").astype("int64").astype(str)
        columns[str(name)] = column_digest(series.tolist())
    return columns


def json_digests(document: object) -> dict[str, Column]:
    """Digests of a JSON document: all leaves under one path, whatever their places in lists."""
    leaves: dict[str, list[Any]] = {}

    def walk(path: str, node: object) -> None:
        if isinstance(node, Mapping):
            for key, value in node.items():
                walk(f"{path}.{key}" if path else str(key), value)
        elif isinstance(node, list):
            for value in node:
                walk(f"{path}[]", value)
        else:
            leaves.setdefault(path, []).append(node)

    walk("", document)
    return {path: column_digest(values) for path, values in leaves.items()}


def journal_digests(path: Path) -> dict[str, Column]:
    """Digests of all tables of a journal."""
    columns = {}
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as opened:
        tables = opened.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
        for (table,) in sorted(tables):
            frame = pd.read_sql_query(f'SELECT * FROM "{table}"', opened)
            for name, column in table_digests(frame).items():
                columns[f"{table}.{name}"] = column
    return columns


READERS: Mapping[str, Callable[[Path], dict[str, Column]]] = {
    ".parquet": lambda path: table_digests(pd.read_parquet(path)),
    ".csv": lambda path: table_digests(pd.read_csv(path)),
    ".json": lambda path: json_digests(json.loads(path.read_text())),
    ".sqlite": journal_digests,
}


def folder_digests(folder: Path) -> dict[str, dict[str, Column]]:
    """Digests of every result under a folder; hidden folders and what is volatile left out."""
    files = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.suffix not in READERS or any(part.startswith(".") for part in inside.parts):
            continue
        name = "journal.sqlite" if path.suffix == ".sqlite" else str(inside)
        read = READERS[path.suffix](path)
        files[name] = {k: v for k, v in read.items() if k.rpartition(".")[2] not in VOLATILE}
    return files


def make(out: Path, runs: Path, code: Path, data: Path, names: Sequence[str]) -> None:
    """Run what is named and write the digests; what OUT has of other runs stays."""
    digests: Digests = json.loads(out.read_text()) if out.exists() else {}
    for name in names:
        place = Place(code.resolve(), data.resolve(), (runs / name).resolve())
        shutil.rmtree(place.folder, ignore_errors=True)
        place.folder.mkdir(parents=True)
        began = time.monotonic()
        RUNS[name](place)
        shutil.rmtree(place.folder / ".cache", ignore_errors=True)
        digests[name] = folder_digests(place.folder)
        sys.stdout.write(f"{name}: {time.monotonic() - began:.0f} s\n")
        sys.stdout.flush()
        out.write_text(json.dumps(digests, indent=0, sort_keys=True) + "\n")


def difference(before: Column | None, after: Column | None) -> str:
    """How a column has moved; `close` where it is equal to 1e-12, empty where its bytes are."""
    if before is None:
        return "new"
    if after is None:
        return "gone"
    if before["sha256"] == after["sha256"] and before["rows"] == after["rows"]:
        return ""
    if before["rows"] != after["rows"]:
        return f"{before['rows']} rows, now {after['rows']}"
    if not all(name in each for name in ("missing", *SUMS) for each in (before, after)):
        return "other values"
    scale = max(before["size"], 1.0)
    apart = {name: after[name] - before[name] for name in SUMS}
    allowed = {"sum": scale, "size": scale, "weighted": scale * before["rows"]}
    equal = all(abs(apart[name]) <= TOLERANCE * allowed[name] for name in SUMS)
    if equal and before["missing"] == after["missing"]:
        return "close"
    return f"sum {before['sum']:.12g}, now {after['sum']:.12g} ({apart['sum']:+.3g})"


def compare(before: Digests, after: Digests) -> list[str]:
    """What has moved, a line a column, for the runs that both have."""
    moved = []
    for run in sorted({*before, *after}):
        if run not in before or run not in after:
            sys.stdout.write(f"{run}: only in one of the two\n")
            continue
        counts = {"equal": 0, "close": 0, "moved": 0}
        for file in sorted({*before[run], *after[run]}):
            one, other = before[run].get(file, {}), after[run].get(file, {})
            for column in sorted({*one, *other}):
                how = difference(one.get(column), other.get(column))
                counts["moved" if how not in ("", "close") else how or "equal"] += 1
                if how not in ("", "close"):
                    moved.append(f"{run} {file} {column}: {how}")
        said = ", ".join(f"{number} {word}" for word, number in counts.items())
        sys.stdout.write(f"{run}: columns {said}\n")
    return moved


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("out", type=Path)
    making.add_argument("--runs", type=Path, required=True)
    making.add_argument("--code", type=Path, default=HERE)
    making.add_argument("--data", type=Path, default=HERE.parent / "shared" / "data")
    making.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS))
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    words = parser.parse_args()
    if words.command == "make":
        make(words.out, words.runs, words.code, words.data, words.only)
        return 0
    moved = compare(json.loads(words.before.read_text()), json.loads(words.after.read_text()))
    sys.stdout.write("".join(f"{line}\n" for line in moved))
    return 1 if moved else 0


if __name__ == "__main__":
    sys.exit(main())
