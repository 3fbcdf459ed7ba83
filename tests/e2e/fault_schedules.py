"""Random faults and kills over the live commands, and what came of them, as JSON.

    python -m tests.e2e.fault_schedules [--command trade|sell] [--schedules 200] [--seed 0]
        [--steps K]

A schedule is a practice server, a wire that fails (`fault_proxy.py`), and a command at one instant
after another, killed at random and started again. Held-up orders land at random. It counts what
must never be: of `trade_stock_e2e.py mode=paper` (`trading_schedule.py`), or of `python -m
execution.sell_spreads` (`selling_schedule.py`).
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

LONGEST = "longest_silence_seconds"  # the one count that is no sum

# Of each command the module with its `schedule`, the counts `NEVER` and the usual `STEPS`. They are
# imported late: the process of a run imports this module before its sleeps are shortened, and what
# of the project came with it would keep the long ones.
SCHEDULES = {"trade": "tests.e2e.trading_schedule", "sell": "tests.e2e.selling_schedule"}


def schedules(command: str, number: int, seed: int, steps: int | None = None) -> dict[str, int]:
    """The counts of so many schedules of a command; steps: instants of each."""
    kind: Any = importlib.import_module(SCHEDULES[command])
    total: Counter[str] = Counter(dict.fromkeys(kind.NEVER, 0))
    for k in range(number):
        with tempfile.TemporaryDirectory() as folder:
            counts = kind.schedule(seed + k, steps or kind.STEPS, Path(folder))
        longest = max(total[LONGEST], counts.pop(LONGEST, 0))
        total.update(counts)
        total[LONGEST] = longest
    return dict(sorted(total.items()))


def faults_of(command: str, figures: dict[str, int]) -> dict[str, int]:
    """Those of the counts that must never be above 0, and are."""
    kind: Any = importlib.import_module(SCHEDULES[command])
    return {name: figures[name] for name in kind.NEVER if figures[name]}


def main() -> None:
    """Print the figures; exit code 1 where something happened that must never."""
    parser = argparse.ArgumentParser(description="Random faults and kills over the live commands.")
    parser.add_argument("--command", choices=tuple(SCHEDULES), default="trade")
    parser.add_argument("--schedules", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="instants of a schedule")
    arguments = parser.parse_args()
    figures = schedules(arguments.command, arguments.schedules, arguments.seed, arguments.steps)
    print(json.dumps(figures, indent=1))
    sys.exit(bool(faults_of(arguments.command, figures)))


if __name__ == "__main__":
    main()
