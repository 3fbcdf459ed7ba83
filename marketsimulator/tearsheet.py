"""Judge daily returns: figures with intervals, deflated Sharpe ratio, benchmark, page.

    python -m marketsimulator.tearsheet returns.csv [benchmark=spy.csv] [trials=20] [key=value …]

The file, CSV or Parquet, has a column `date` and a column of daily returns (`return`) or of equity
(`equity`, `nav`, `close`); column=NAME chooses another. Returns are fractions or percents: the
size of the moves shows which, or the command asks for unit=fraction or unit=percent. benchmark= is
a file of the same kind, such as the bars of SPY. trials=N is the number of variants tried, of which
these returns are the best; the deflated Sharpe ratio corrects for them.

The output contains tearsheet.html and tearsheet.json.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("marketsimulator.tearsheet")

from pathlib import Path

from foundation.cli import Result
from foundation.errors import InputError
from marketsimulator.results.returns_file import read_returns
from marketsimulator.results.track_record import TrackRecord, track_record_terminal_parts
from marketsimulator.settings import TearsheetSettings


def run(settings: TearsheetSettings) -> Result:
    """Judge the returns; return the tables, the sentences and the files."""
    if settings.returns is None:
        raise InputError("returns: name a CSV or Parquet file of daily returns or equity")
    returns = read_returns(Path(settings.returns).expanduser(), settings.column, settings.unit)
    benchmark = None
    if settings.benchmark is not None:
        benchmark = read_returns(Path(settings.benchmark).expanduser())
    record = TrackRecord.from_returns(
        returns,
        benchmark,
        name=str(returns.name),
        trials=settings.trials,
        source=returns.attrs["source"],
        seed=settings.seed,
    )
    return Result(*track_record_terminal_parts(record), record.file_writers())
