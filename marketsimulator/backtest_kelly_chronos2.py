r"""The backtest with the original flags; further words are Hydra overrides.

    python marketsimulator/backtest_kelly_chronos2.py --symbols NVDA BTCUSD \
        --start 2024-10-01 --end 2024-11-01 --data-dir DIR … --output DIR [key=value …]

--symbols SYMBOL …   none: every symbol the data holds
--start, --end       New York dates, inclusive, or instants with a zone
--days N             instead: calendar days up to the last bar all symbols share
--capital N          USD
--data-dir DIR …     folders of bar files, one file a symbol; none: the synthetic market
--output DIR         folder for the results
"""

from __future__ import annotations

from foundation.opening import open_command

if __name__ == "__main__":
    open_command("marketsimulator.backtest_kelly_chronos2", __doc__, settings="backtest")

import sys
from pathlib import Path

from foundation.command import Parser, is_override, overrides_of_flags
from foundation.compose import composed_config
from marketsimulator.backtest import run_command
from marketsimulator.flags import named_by_flags, refuse_both

FLAGS = {
    "symbols": "--symbols",
    "start": "--start",
    "end": "--end",
    "days": "--days",
    "capital": "--capital",
    "data.dir": "--data-dir",
    "output": "--output",
}


def overrides_of(words: list[str]) -> list[str]:
    """Hydra overrides for the words of a command line.

    Raises
    ------
    InputError
        for a setting that a flag and a word both give a value.
    """
    parser = Parser()
    parser.add_argument("--symbols", nargs="+", default=[])
    parser.add_argument("--start")
    parser.add_argument("--end")
    parser.add_argument("--days", type=int)
    parser.add_argument("--capital", type=float)
    parser.add_argument("--data-dir", nargs="+", default=[])
    parser.add_argument("--output")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args(words)
    # A flag with several values takes every word up to the next flag, overrides too: they are
    # picked out of its values. A folder whose name reads like key=value stays a folder.
    overrides: list[str] = []
    values: dict[str, list[str]] = {"symbols": [], "data_dir": [], "overrides": []}
    for name, others in values.items():
        for word in getattr(arguments, name):
            is_folder = name == "data_dir" and Path(word).exists()
            if is_override(word) and not is_folder:
                overrides.append(word)
            else:
                others.append(word)
    parser.refuse_others(values["overrides"])
    refuse_both(FLAGS, words)
    single = ("start", "end", "days", "capital", "output")
    flags = {key: getattr(arguments, key) for key in single}
    flags |= {"symbols": values["symbols"], "data.dir": values["data_dir"]}
    return overrides_of_flags(flags) + overrides


def main() -> None:
    """Command line."""
    words = sys.argv[1:]
    run_command(
        lambda: composed_config("backtest", overrides_of(words)),
        naming=named_by_flags(FLAGS, words),
    )


if __name__ == "__main__":
    main()
