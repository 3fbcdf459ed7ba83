"""The backtest with the original flags; further words are Hydra overrides.

    python marketsimulator/backtest_kelly_chronos2.py --symbols NVDA BTCUSD --start 2024-10-01 --end
    2024-11-01 \
        --data-dir DIR … --output DIR [key=value …]
"""

from __future__ import annotations

import sys
from pathlib import Path

from foundation.command import Parser, is_override, overrides_of_flags
from foundation.compose import composed
from marketsimulator.backtest import run_command


def overrides_of(words: list[str]) -> list[str]:
    """Hydra overrides for the words of a command line."""
    parser = Parser(
        description="Backtest Kelly sizing on Chronos-2 forecasts. "
        "Further key=value words are Hydra overrides."
    )
    parser.add_argument("--symbols", nargs="+", default=[], metavar="SYMBOL")
    parser.add_argument("--start", help="New York date, inclusive, or an instant with a zone")
    parser.add_argument("--end", help="New York date, inclusive, or an instant with a zone")
    parser.add_argument(
        "--days", type=int, help="instead: calendar days up to the last bar all symbols share"
    )
    parser.add_argument("--capital", type=float, help="USD")
    parser.add_argument(
        "--data-dir",
        nargs="+",
        default=[],
        metavar="DIR",
        help="folders of bar files, one file a symbol",
    )
    parser.add_argument("--output", metavar="DIR", help="folder for the results")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="any setting of configs/backtest.yaml"
    )
    given = parser.parse_intermixed_args(words)
    overrides: list[str] = []
    lists: dict[str, list[str]] = {}
    for name in ("symbols", "data_dir", "overrides"):
        lists[name] = []
        for word in getattr(given, name):
            changes = is_override(word) and not (name == "data_dir" and Path(word).exists())
            (overrides if changes else lists[name]).append(word)
    parser.refuse_others(lists["overrides"])
    flags = {key: getattr(given, key) for key in ("start", "end", "days", "capital", "output")}
    return (
        overrides_of_flags({**flags, "symbols": lists["symbols"], "data.dir": lists["data_dir"]})
        + overrides
    )


def main() -> None:
    """Command line."""
    overrides = overrides_of(sys.argv[1:])
    run_command(lambda: composed("backtest", overrides))


if __name__ == "__main__":
    main()
