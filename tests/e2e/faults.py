"""Proves the live commands by faults: kills over a replayed week, and random schedules of faults.

    python tests/e2e/faults.py --kills 200 --schedules 1000 --seed 0
        [--jobs trade|spreads|both|two|kalshi] [--timeframe 1h|15m|1d|'1d fill=close']

Everything runs on this machine: the real commands as processes, a wire that fails, and a practice
server whose clock moves only where it is told to. It prints one JSON object, whose counts before
`failed` are what must never be, and ends with 1 where any of them is above 0. What a schedule met
is seen again with its own seed: `--seed S --schedules 1 --kills 0 --jobs JOB`. Stocks and coins
are traded on a timeframe; spreads and event contracts have none. `both` has a process for each of
stocks and spreads in turn, `two` one process with both.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SHOWN = (
    *("kills", "schedules"),
    *("duplicates", "lost", "breaches", "differing_fills", "hangs", "leaks"),
)
# Beside them: a command that ends with a traceback, one that does not go on after everything works
# again, a halt that nothing justifies.
# Then stops and commands, as `fault_audit.py`, `fault_stops.py` and `fault_commands.py` say.
NEVER = (
    *(*SHOWN[2:], "crashes", "stuck", "false_halts"),
    *("unprotected", "stray_stops", "sold_beyond", "turned_positions", "open_after_done"),
    *("repeated_commands", "unanswered_commands", "false_watch"),
)
LONGEST = "longest_silence_s"  # the one count that is not a sum

FIRST_DECISION = ("mode=dry", "forecaster=ewma", "data.start=2024-01-02", "end=2024-02-20T15:30Z")

# They are imported late: each process of a run imports this module before its waits are shortened,
# and what of the project came with it would keep the long ones.
SCHEDULES = {
    "trade": "tests.e2e.trading_schedule",
    "spreads": "tests.e2e.selling_schedule",
    "kalshi": "tests.e2e.kalshi_schedule",
    "two": "tests.e2e.two_jobs_schedule",
}
STEPS = {"trade": 4, "spreads": 11, "kalshi": 6, "two": 4}
KILLED = ("trade", "spreads")  # over a replayed week; the others within schedules alone
JOBS = {**{job: (job,) for job in SCHEDULES}, "both": ("trade", "spreads")}
# Instants at which kills are made: of stocks and coins by their timeframe, of spreads.
INSTANTS = {"1h": 203, "15m": 120, "1d": 75, "1d fill=close": 60}
SESSIONS = 35
LEAST = 6

Outcome = Mapping[str, Any]


def schedule(job: str, seed: int, steps: int, folder: Path, **more: Any) -> Counter[str]:
    """What came of one schedule: counts of what happened and of what must never be.

    more: of the job's own `going`.
    """
    counts: Counter[str] = Counter(schedules=1)
    with importlib.import_module(SCHEDULES[job]).going(folder, seed, counts, **more) as one:
        for _ in range(steps):
            one.step()
        one.end()
    return counts


def kills(job: str, number: int, seed: int, folder: Path, timeframe: str = "1h") -> Counter[str]:
    """What came of a replay with so many kills, beside one without any: both must be the same.

    A kill is SIGKILL at a request (before the venue hears of it, while it is on its way, after it
    was done), before or after a commit to the journal, or at any moment. After a kill the command
    is started again at the same instant. Of a small number only a part of the week is replayed.
    """
    counts: Counter[str] = Counter()
    trades = job == "trade"
    more: dict[str, Any] = {"timeframe": timeframe, "plain": True} if trades else {}
    instants = min(INSTANTS[timeframe] if trades else SESSIONS, max(LEAST, number))
    planned = Counter(random.Random(seed).choices(range(instants), k=number))
    outcomes: list[Outcome] = []
    for name, plan in (("undisturbed", Counter[int]()), ("killed", planned)):
        place = folder / name
        place.mkdir()
        counted = Counter[str]()
        with importlib.import_module(SCHEDULES[job]).going(place, seed, counted, **more) as one:
            for k in range(instants):
                one.killed_step(plan[k])
            one.finish()
            outcomes.append(one.outcome())
        # The undisturbed replay also ends with a kill, which is not counted.
        counted["kills"] = counted.pop("landed kills", 0)
        counts.update(counted)
    counts["instants"] = instants
    for difference in differing(*outcomes):
        counts["differing_fills"] += 1
        sys.stderr.write(f"{job} seed {seed}: {difference}\n")
    return counts


def differing(one: Outcome, other: Outcome) -> list[str]:
    """What is not the same in two outcomes: cash, positions, the fills of each order."""
    return [
        f"{key}: {one.get(key)} and {other.get(key)}"
        for key in sorted({*one, *other})
        if one.get(key) != other.get(key)
    ]


def run(
    jobs: Sequence[str], number: int, schedules: int, seed: int, timeframe: str = "1h"
) -> dict[str, Any]:
    """The counts of so many kills and schedules, shared among jobs; failed ones with their seed."""
    total: Counter[str] = Counter(dict.fromkeys((*SHOWN, *NEVER, LONGEST), 0))
    failed: list[str] = []
    began = time.monotonic()
    # The fork server loads libraries and commands first, and a decision compiles what an
    # installation has not compiled yet: that is no silence of a command.
    commands: Any = importlib.import_module("tests.support.commands")
    commands.preload("tests.e2e.hurried")
    with tempfile.TemporaryDirectory() as folder:
        entry = Path(__file__).resolve().parents[2] / "trade_stock_e2e.py"
        commands.run_command((str(entry), *FIRST_DECISION), cwd=Path(folder))
    for place, job in enumerate(jobs):
        if share := shared(number, len(jobs))[place]:
            with tempfile.TemporaryDirectory() as folder:
                counts = kills(job, share, seed, Path(folder), timeframe)
            _note(f"{job} kills {share} seed {seed}", counts, total, failed)
        more = {"timeframe": timeframe} if job == "trade" else {}
        for k in range(shared(schedules, len(jobs))[place]):
            with tempfile.TemporaryDirectory() as folder:
                counts = schedule(job, seed + k, STEPS[job], Path(folder), **more)
            # Kills within schedules are some of what goes wrong; those asked for are the replay's.
            counts["kills in schedules"] = counts.pop("kills", 0)
            _note(f"{job} schedule seed {seed + k}", counts, total, failed)
    shown = {name: total.pop(name) for name in dict.fromkeys((*SHOWN, *NEVER))}
    seconds = round(time.monotonic() - began)
    return {**shown, "failed": failed, "seconds": seconds, **dict(sorted(total.items()))}


def shared(number: int, parts: int) -> list[int]:
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
    parser.add_argument("--timeframe", choices=tuple(INSTANTS), default="1h")
    words = parser.parse_args()
    if min(words.kills, words.schedules) < 0:
        parser.error("--kills and --schedules are numbers from 0")
    if words.kills and not {*JOBS[words.jobs]} <= {*KILLED}:
        parser.error(f"--kills: {words.jobs} is killed within schedules alone; give 0")
    if words.timeframe != "1h" and words.jobs != "trade":
        parser.error("--timeframe: stocks and coins alone have one; give --jobs trade")
    figures = run(JOBS[words.jobs], words.kills, words.schedules, words.seed, words.timeframe)
    print(json.dumps(figures, indent=1))
    sys.exit(any(figures[name] for name in NEVER))


if __name__ == "__main__":
    # A script has its own folder on the path, and not the one from which `tests` is imported.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
