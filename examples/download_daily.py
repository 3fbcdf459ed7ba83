r"""Download Yahoo's daily bars with yfinance: one file per symbol, read as timeframe=1d.

    .venv/bin/python examples/download_daily.py outputs/example-daily SPY QQQ TLT GLD BTC-USD
    .venv/bin/python -m marketsimulator.backtest 'data.dir=[outputs/example-daily]' \
        start=2020-01-02 end=2023-12-29 forecaster=ewma output=outputs/example-daily-run

yfinance is neither a product of Yahoo nor endorsed by it. Yahoo's terms allow only personal use:
research and learning, no redistribution, no business use. `pip install -e '.[yahoo]'` installs it.

Symbols are written as Yahoo writes them, crypto as BTC-USD. `--start 2016-01-01` is the default
first date. Prices are adjusted for splits. `adj_close` is also adjusted for dividends; it is read
with data.adjustment=all. Yahoo's volume of crypto is in USD; it is divided by the close, so that
the files have coins. The current day is left out. A list of today's symbols lacks delisted symbols,
so that backtests on it look too good (survivorship bias).
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from foundation.shell import format_command

COLUMNS = {
    "Open": "open",
    "High": "high",
    "Low": "low",
    "Close": "close",
    "Adj Close": "adj_close",
    "Volume": "volume",
}
CRYPTO_SUFFIX = "-USD"  # suffix of Yahoo's symbols of crypto


def download_days(yfinance: Any, symbol: str, start: str, today: str) -> pd.DataFrame:
    """Download a symbol's daily bars up to the day before `today`, indexed by date."""
    frame: pd.DataFrame = yfinance.Ticker(symbol).history(
        start=start, interval="1d", auto_adjust=False, actions=False
    )
    dates = pd.Series([str(stamp)[:10] for stamp in frame.index], frame.index, dtype=str)
    days = frame.loc[dates < today].set_index(dates[dates < today].rename("timestamp"))
    if days.empty:
        raise SystemExit(f"{symbol}: Yahoo has no days from {start} on; is it spelled as there?")
    days = days[list(COLUMNS)].rename(columns=COLUMNS).dropna()
    if symbol.upper().endswith(CRYPTO_SUFFIX):
        days["volume"] = days["volume"] / days["close"]
    return days


def main(words: Sequence[str]) -> None:
    """Download the bars of each symbol and write them to a file."""
    flags = argparse.ArgumentParser(description="Daily bars by yfinance")
    flags.add_argument("folder", type=Path)
    flags.add_argument("symbols", nargs="+")
    flags.add_argument("--start", default="2016-01-01")
    given = flags.parse_args(words)
    try:
        yfinance = importlib.import_module("yfinance")
    except ImportError:
        install = format_command("pip install -e '.[yahoo]'")
        raise SystemExit(f"yfinance is not installed; {install}") from None
    # UTC's date is this one or the next: days before it are complete, for crypto as well.
    today = str(pd.Timestamp.now(tz="America/New_York").date())
    given.folder.mkdir(parents=True, exist_ok=True)
    for symbol in given.symbols:
        days = download_days(yfinance, symbol, given.start, today)
        days.to_csv(given.folder / f"{symbol}.csv")
        sys.stdout.write(f"{symbol}: {len(days):,} days, {days.index[0]} to {days.index[-1]}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
