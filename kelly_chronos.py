"""Every command of the house under one name.

kelly-chronos                     the commands, a line each
kelly-chronos backtest …          the same as python -m marketsimulator.backtest …
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import runpy
import sys
from pathlib import Path

COMMANDS = {
    name.rpartition(".")[2]: name
    for name in (
        "trade_stock_e2e",
        "marketsimulator.backtest",
        "marketsimulator.sweep",
        "marketsimulator.compare_strategies",
        "marketsimulator.audit",
        "marketsimulator.alpaca_server",
        "marketsimulator.monte_carlo",
        "marketsimulator.spread_backtest",
        "marketsimulator.smile_calibration",
        "forecasting.batch",
        "forecasting.evaluate",
        "forecasting.tune",
        "forecasting.train",
        "forecasting.cache",
        "execution.quantity",
        "execution.explain",
        "execution.sell_spreads",
        "sizing.contracts",
        "trainingdata.download",
        "trainingdata.build_correlation_matrix_from_csvs",
    )
}


def about(module: str) -> str:
    """The first line of a module's docstring; the module is not run."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    words = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    return (words or "").splitlines()[0]


def main() -> None:
    """Run the named command with the words after it; without a name, list them."""
    asked = sys.argv[1].replace("-", "_") if len(sys.argv) > 1 else ""
    if asked in COMMANDS:
        sys.argv = [f"{sys.argv[0]} {sys.argv[1]}", *sys.argv[2:]]
        runpy.run_module(COMMANDS[asked], run_name="__main__", alter_sys=False)
        return
    if asked not in ("", "__help", "_h"):
        near = difflib.get_close_matches(asked, COMMANDS, 1)
        meant = f", perhaps {near[0]}?" if near else ""
        sys.stderr.write(
            f"error: {sys.argv[1]}: no command of this name{meant}; kelly-chronos alone lists"
            " them\n"
        )
        sys.exit(2)
    width = max(map(len, COMMANDS))
    sys.stdout.write(
        "".join(f"  {name:{width}}  {about(module)}\n" for name, module in COMMANDS.items())
    )


if __name__ == "__main__":
    main()
