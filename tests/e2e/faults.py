"""Proves the live commands by faults: kills over a replayed week, and random schedules of faults.

    python tests/e2e/faults.py --kills 200 --schedules 1000 --seed 0
        [--jobs trade|spreads|both|kalshi] [--timeframe 1h|15m|1d|'1d fill=close']

Everything runs on this machine: the real commands as processes, a wire that fails, and a practice
server whose clock moves only where it is told to. It prints one JSON object, whose first eight
counts are what must never be, and ends with 1 where any of them is above 0. What a schedule met is
seen again with its own seed: `--seed S --schedules 1 --kills 0 --jobs JOB`. Stocks and coins are
traded on a timeframe; spreads and event contracts have none.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SHOWN = (
    *("kills", "schedules"),
    *("duplicates", "lost", "breaches", "differing_fills", "hangs", "leaks"),
)
# Beside them: a command that ends with a traceback, one that does not go on after everything works
# again, a halt that nothing justifies.
NEVER = (*SHOWN[2:], "crashes", "stuck", "false_halts")
LONGEST = "longest_silence_s"  # the one count that is no sum

FIRST_DECISION = ("mode=dry", "forecaster=ewma", "data.start=2024-01-02", "end=2024-02-20T15:30Z")

# They are imported late: each process of a run imports this module before its waits are shortened,
# and what of the project came with it would keep the long ones.
SCHEDULES = {
    "trade": "tests.e2e.trading_schedule",
    "spreads": "tests.e2e.selling_schedule",
    "kalshi": "tests.e2e.kalshi_schedule",
}
JOBS = {**{job: (job,) for job in SCHEDULES}, "both": ("trade", "spreads")}


def run(
    jobs: Sequence[str], kills: int, schedules: int, seed: int, timeframe: str = "1h"
) -> dict[str, Any]:
    """The counts of so many kills and schedules, shared among jobs; failed ones with their seed."""
    total: Counter[str] = Counter(dict.fromkeys((*SHOWN, *NEVER, LONGEST), 0))
    failed: list[str] = []
    began = time.monotonic()
    # The fork server loads libraries and commands first, and a decision compiles what an
    # installation has not compiled yet: that is no silence of a command.
    commands: Any = importlib.import_module("tests.commands")
    commands.preload("tests.e2e.hurried")
    with tempfile.TemporaryDirectory() as folder:
        entry = Path(__file__).resolve().parents[2] / "trade_stock_e2e.py"
        commands.run_command((str(entry), *FIRST_DECISION), cwd=Path(folder))
    courses: Any = importlib.import_module("tests.e2e.trading_schedule").COURSES
    course = courses[timeframe]
    for place, job in enumerate(jobs):
        number = shares(kills, len(jobs))[place]
        if number:
            replay: Any = importlib.import_module("tests.e2e.fault_kills").kills
            with tempfile.TemporaryDirectory() as folder:
                counts = replay(job, number, seed, Path(folder), course)
            _note(f"{job} kills {number} seed {seed}", counts, total, failed)
        module: Any = importlib.import_module(SCHEDULES[job])
        for k in range(shares(schedules, len(jobs))[place]):
            with tempfile.TemporaryDirectory() as folder:
                more = {"course": course} if job == "trade" else {}
                counts = module.schedule(seed + k, module.STEPS, Path(folder), **more)
            # Kills within schedules are some of what goes wrong; those asked for are the replay's.
            counts["kills in schedules"] = counts.pop("kills", 0)
            _note(f"{job} schedule seed {seed + k}", counts, total, failed)
    shown = {name: total.pop(name) for name in dict.fromkeys((*SHOWN, *NEVER))}
    seconds = round(time.monotonic() - began)
    return {**shown, "failed": failed, "seconds": seconds, **dict(sorted(total.items()))}


def shares(number: int, parts: int) -> list[int]:
    """A number in as many parts as even as can be, the larger first."""
    return [number // parts + (place < number % parts) for place in range(parts)]


def _note(name: str, counts: Counter[str], total: Counter[str], failed: list[str]) -> None:
    """Add counts to the total, and say at once what came of it."""
    total[LONGEST] = max(total[LONGEST], counts.pop(LONGEST, 0))
    total.update(counts)
    found = {each: counts[each] for each in NEVER if counts[each]}
    line = f"{name}: {found or 'nothing that must never be'}"
    if found:
        failed.append(line)
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main() -> None:
    """Print the figures; exit code 1 where something happened that must never."""
    parser = argparse.ArgumentParser(description="Kills and faults over the live commands.")
    parser.add_argument("--kills", type=int, default=20, help="kills over the replayed week")
    parser.add_argument("--schedules", type=int, default=20, help="random schedules of faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", choices=tuple(JOBS), default="both")
    parser.add_argument("--timeframe", choices=("1h", "15m", "1d", "1d fill=close"), default="1h")
    words = parser.parse_args()
    if min(words.kills, words.schedules) < 0:
        parser.error("--kills and --schedules are numbers from 0")
    if words.jobs == "kalshi" and words.kills:
        parser.error("--kills: event contracts are killed within schedules alone; give 0")
    if words.timeframe != "1h" and words.jobs != "trade":
        parser.error("--timeframe: stocks and coins alone have one; give --jobs trade")
    figures = run(JOBS[words.jobs], words.kills, words.schedules, words.seed, words.timeframe)
    print(json.dumps(figures, indent=1))
    sys.exit(any(figures[name] for name in NEVER))


if __name__ == "__main__":
    # A script has its own folder on the path, and not the one from which `tests` is imported.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
