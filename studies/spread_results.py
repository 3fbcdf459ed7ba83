"""Tables of docs/STUDIES.md on the results of selling same-day spreads.

    python studies/spread_results.py BARS VIX.parquet [--years 3] [--seed 0] [--only WORD]

BARS is a folder of hourly bars of SPY. Every row is a run of `option_spreads.backtest` with
the settings that are printed. Means are USD per contract, with a standard error over days.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from option_spreads.autoscaler.rules import WIDTH_POINTS_BY_STRATEGY

ONE_EACH = ("STARTING_CAPITAL=1000000", "AUTOSCALING_ENABLED=false")
STOPS = ("rules.stop_multiple=null", "rules.stop_usd=null")
HELD = (*STOPS, "rules.target=null", "rules.trail_start=null")
HALF = ("costs.slippage=0.025",)
FREE = ("costs.slippage=0", "costs.commission=0", "costs.fee=0")
LEVELS = (0.73, 0.88)  # of the smile, one standard error to either side of its default


def means() -> dict[str, tuple[str, ...]]:
    """Return the settings of each row of the tables with one contract per trade."""
    rows: dict[str, tuple[str, ...]] = {}
    for exits, name in (((), "as configured"), (HELD, "held to the close")):
        rows[name] = exits
        rows[f"{name}, half the slippage"] = (*exits, *HALF)
        for level in LEVELS:
            rows[f"{name}, level {level}"] = (*exits, f"smile.vix_multiple={level}")
        rows[f"{name}, no costs"] = (*exits, *FREE)
    return rows


def tables(real: tuple[str, ...], simulated: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return the settings of every run by its name."""
    runs = {f"real: {name}": (*real, *ONE_EACH, *row) for name, row in means().items()}
    for premium in (0.15, 0.0):
        for name, row in means().items():
            # The index moves with the level, so the market is equally fair at another one.
            if "level" not in name and "half" not in name:
                words = (*simulated, *ONE_EACH, f"index.volatility_premium={premium}", *row)
                runs[f"simulated, premium {premium}: {name}"] = words
    for contracts in (0, 1):
        sized = f"NEGATIVE_KELLY_CONTRACTS={contracts}"
        runs[f"sized, real: negative Kelly {contracts}"] = (*real, sized)
        runs[f"sized, real: negative Kelly {contracts}, held"] = (*real, sized, *HELD)
        for premium in (0.15, 0.0):
            name = f"sized, simulated, premium {premium}: negative Kelly {contracts}"
            runs[name] = ("years=1", simulated[1], sized, f"index.volatility_premium={premium}")
            runs[f"{name}, held"] = (*runs[name], *HELD)
    return runs


def run_figures(words: tuple[str, ...], folder: Path) -> dict[str, dict[str, Any]]:
    """Return the figures of every strategy, each with a separate account."""
    command = [sys.executable, "-m", "option_spreads.backtest", *words]
    figures = {}
    for name in WIDTH_POINTS_BY_STRATEGY:
        output = folder / name
        more = (f"strategies=[{name}]", f"output={output}", "overwrite=true")
        subprocess.run([*command, *more], check=True, stdout=subprocess.DEVNULL)
        figures[name] = json.loads((output / "spreads.json").read_text())["account"]
    return figures


def cell(figures: dict[str, Any], sized: bool) -> str:
    """Return a strategy's figures in a table."""
    exits = figures["exits"]
    ends = exits.get("expired", 0) + exits.get("settled", 0)
    text = f"{figures['mean']:+.1f} ± {figures['mean_error']:.1f}; won {figures['win_rate']:.1%}"
    text += f", {figures['average_win']:.0f}, {figures['average_loss']:.0f}"
    text += f"; stop {exits.get('stop', 0):.1%}, gap {exits.get('gap', 0):.1%}, close {ends:.1%}"
    text += f"; worst {figures['worst']:.0f} of {figures['largest_possible_loss']:.0f}"
    if sized:
        text += f"; ends at {figures['final_balance']:,.0f}, {figures['max_drawdown']:.1%} down"
    return f"{figures['trades']} trades {text}"


def main() -> None:
    """Run the backtest of every row, and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("bars", type=Path)
    parser.add_argument("vix", type=Path)
    parser.add_argument("--years", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="rows whose name begins with it")
    words = parser.parse_args()
    real = (f"bars.dir=[{words.bars}]", f"bars.vix={words.vix}")
    simulated = (f"years={words.years}", f"seed={words.seed}", "start=2001-01-02")
    with tempfile.TemporaryDirectory() as folder:
        for name, row in tables(real, simulated).items():
            if not name.startswith(words.only):
                continue
            print(f"\n{name}\n  {' '.join(row)}", flush=True)
            for strategy, figures in run_figures(row, Path(folder)).items():
                print(f"  {strategy:17}", cell(figures, name.startswith("sized")), flush=True)


if __name__ == "__main__":
    main()
