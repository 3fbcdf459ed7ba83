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
from typing import Literal, Self

from omegaconf import DictConfig

from foundation.cli import Result
from foundation.errors import InputError
from foundation.settings import setting, settings_class, settings_from_config
from marketsimulator.results.returns_file import read_returns
from marketsimulator.results.track_record import TrackRecord, track_record_terminal_parts


@settings_class()
class TearsheetSettings:
    """Settings of a tear sheet: daily returns, benchmark, number of trials."""

    returns: str | None = setting(
        None, "CSV or Parquet file of daily returns or equity; the first argument of the command"
    )
    column: str | None = setting(
        None, "column of returns or equity; null: the one with a known name"
    )
    unit: Literal["fraction", "percent"] | None = setting(
        None, "unit of the returns; null: inferred from headings, percent signs and sizes"
    )
    benchmark: str | None = setting(
        None, "file of daily returns, equity or prices of the benchmark; null: none"
    )
    trials: int | None = setting(
        None,
        "number of variants tried, of which these returns are the best; null: unknown",
        ge=1,
        le=10**9,
    )
    seed: int = setting(0, "seed of the bootstrap", ge=0)
    output: str = setting("outputs/tearsheet", "folder for the results")

    @classmethod
    def from_config(cls, config: DictConfig) -> Self:
        """Validate a composed configuration and return its settings."""
        return settings_from_config(cls, config)


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
