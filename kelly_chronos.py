"""Every command of the system under one name.

kelly-chronos                     the commands, a line each
kelly-chronos backtest …          the same as python -m marketsimulator.backtest …
kelly-chronos --version           which version this is
"""

from __future__ import annotations

import ast
import importlib.util
import os
import runpy
import sys
from pathlib import Path

from foundation import VERSION
from foundation.errors import nearest
from foundation.registry import registered

COMMANDS = {
    (name.partition(".")[2].replace(".", "_") or name): name
    for name in (
        "trade_stock_e2e",
        "marketsimulator.backtest",
        "marketsimulator.sweep",
        "marketsimulator.compare_strategies",
        "marketsimulator.compare",
        "marketsimulator.audit",
        "marketsimulator.drift",
        "marketsimulator.stress",
        "marketsimulator.alpaca_server",
        "forecasting.batch",
        "forecasting.evaluate",
        "forecasting.train",
        "forecasting.cache",
        "execution.quantity",
        "execution.explain",
        "execution.doctor",
        "execution.live",
        "trainingdata.download",
        "trainingdata.build_correlation_matrix_from_csvs",
    )
} | registered("COMMANDS")


def summary_line(module: str) -> str:
    """The first line of a module's docstring."""
    # The source is read and not run: to import every command would load every library they use.
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    return (docstring or "").splitlines()[0]


def main() -> None:
    """Run the named command with the words after it; without a name, list the commands."""
    command = sys.argv[1].replace("-", "_") if len(sys.argv) > 1 else ""
    if command in COMMANDS:
        # argparse and Hydra print the first word as the program that a user typed.
        sys.argv = [f"{sys.argv[0]} {sys.argv[1]}", *sys.argv[2:]]
        runpy.run_module(COMMANDS[command], run_name="__main__", alter_sys=False)
        return
    if command in ("__version", "_V"):
        sys.stdout.write(f"kelly-chronos {VERSION}\n")
        return
    if command not in ("", "__help", "_h"):  # the hyphens of a flag have become underscores
        match = nearest(command, COMMANDS)
        hint = f"did you mean {match}?" if match else "kelly-chronos alone lists them"
        sys.stderr.write(f"error: {sys.argv[1]}: there is no such command; {hint}\n")
        sys.exit(2)
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {summary_line(module)}\n" for name, module in COMMANDS.items()]
    try:
        sys.stdout.writelines(lines)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who reads has seen enough (`kelly-chronos | head`); Python would say so once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
