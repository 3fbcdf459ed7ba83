r"""The backtest with the flags of the original script; other arguments are Hydra overrides.

    python marketsimulator/backtest_kelly_chronos2.py --symbols NVDA BTCUSD \
        --start 2024-10-01 --end 2024-11-01 --data-dir DIR … --output DIR [key=value …]

--symbols SYMBOL …   none: every symbol the data holds
--start, --end       New York dates, inclusive, or timestamps with a time zone
--days N             instead of both: calendar days up to the last bar all symbols share
--capital N          USD
--data-dir DIR …     folders of bar files, one file a symbol; none: the folders below trainingdata/
                     with files of the symbols, else the synthetic market
--output DIR         folder for the results
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("marketsimulator.backtest_kelly_chronos2")

from marketsimulator.backtest import run as run
