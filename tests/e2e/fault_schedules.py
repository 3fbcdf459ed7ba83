"""Random faults and kills over the live commands, and what came of them, as JSON.

    python -m tests.e2e.fault_schedules [--schedules 200] [--seed 0] [--steps 6]

A schedule is a practice server on the synthetic market, a wire that fails (`fault_proxy.py`), and
`trade_stock_e2e.py mode=paper` at one instant after another, killed at random and started again.
Held-up orders land at random. It counts what must never be.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from execution.account_lock import JOURNAL
from execution.intents import IntentBook
from tests.commands import Started
from tests.e2e.fault_proxy import FaultProxy, faulty_wire
from tests.e2e.practice import KEYS, OPENING, ROOT, Practice, practising

CAP = 0.6  # of equity, that a symbol may have
GROSS = 4.0
DRIFT = 0.05  # what prices may do to both between decisions
PATIENCE = 60.0  # seconds without progress or a reason
SYMBOLS = "SYA,SYB,SYC"
HURRIED = """
import runpy, sys, time
rest = time.sleep
time.sleep = lambda seconds: rest(min(seconds, 0.02))
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rsplit("/", 1)[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""
NOISE = '''
"""Forecasts that are noise, the same for the same instant, so that every instant has orders."""
import zlib
from dataclasses import replace
import numpy as np
from forecasting.baseline import RandomWalk


class Noise:
    name = "noise"

    def forecast(self, bars, since, progress=None):
        table = RandomWalk().forecast(bars, since)
        issued = table.windows.issued_at.astype("datetime64[h]").astype(int)
        seeds = issued * 31 + table.windows.symbol
        move = np.array([zlib.crc32(str(s).encode()) / 2**32 - 0.5 for s in seeds])

        def answer(rows):
            values = table.answer(rows) * (1 + 0.02 * move[rows])[:, None, None]
            return values.astype(np.float32)

        return replace(table, answer=answer, name="noise")
'''


def trading_schedule(seed: int, steps: int, folder: Path) -> Counter[str]:
    """What came of one schedule: counts of what happened and of what must never be."""
    rng = random.Random(seed)
    counts: Counter[str] = Counter(schedules=1)
    (folder / "hurried.py").write_text(HURRIED)
    (folder / "noise.py").write_text(NOISE)
    with practising() as start:
        here = start(f"symbols=[{SYMBOLS}]")
        here.advance(OPENING)
        with faulty_wire(here.url, seed) as wire:
            for _ in range(steps):
                wire.danger = rng.choice((0.0, 0.05, 0.15, 0.3))
                for _ in range(rng.choice((1, 1, 2))):
                    _run(wire, folder, rng, counts)
                    if rng.random() < 0.3:
                        wire.land()
                _look_at_limits(here, counts)
                here.advance()
            wire.danger = 0.0
            wire.land()
            _run(wire, folder, rng, counts, killing=False)
            _look_at_limits(here, counts)
            _look_at_books(here, folder, counts)
            counts.update({f"fault {kind}": count for kind, count in wire.happened.items()})
    return counts


def _run(
    wire: FaultProxy,
    folder: Path,
    rng: random.Random,
    counts: Counter[str],
    *,
    killing: bool = True,
) -> None:
    """One paper run, killed at random."""
    environment = {
        "APCA_API_KEY_ID": KEYS.key,
        "APCA_API_SECRET_KEY": KEYS.secret,
        "PATH": "",
        "HOME": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(folder / "cache")),
    }
    words = [
        *(str(folder / "hurried.py"), str(ROOT / "trade_stock_e2e.py"), "mode=paper"),
        *(f"symbols=[{SYMBOLS}]", f"broker.url_override={wire.url}", "bar_patience=0"),
        *("forecaster=noise:Noise", "forecaster.calibrated=false", "sizing.holding=next"),
        *("broker.read_timeout=0.5", "broker.deadline=1.5", "broker.attempts=2"),
    ]
    began = time.monotonic()
    command = Started(words, cwd=folder, env=environment)
    counts["runs"] += 1
    if killing and rng.random() < 0.3:
        time.sleep(rng.uniform(0.3, 4.0))
        if command.running:
            command.kill()
            counts["kills"] += 1
            return
    done = command.wait(PATIENCE * 3)
    taken = time.monotonic() - began
    counts["standstills"] += taken > PATIENCE
    counts["longest_seconds"] = max(counts["longest_seconds"], round(taken))
    counts["tracebacks"] += "Traceback" in done.stderr
    counts["leaked_keys"] += KEYS.secret in done.stderr + done.stdout
    counts[f"exit {done.returncode}"] += 1
    if "Traceback" in done.stderr:
        sys.stderr.write(done.stderr)


def _look_at_limits(here: Practice, counts: Counter[str]) -> None:
    account = here.venue.broker.account()
    values = [
        abs(float(qty)) * account.prices[symbol] / account.equity
        for symbol, qty in account.positions.items()
    ]
    counts["limits_broken"] += any(value > CAP + DRIFT for value in values)
    counts["limits_broken"] += sum(values) > GROSS + DRIFT


def _look_at_books(here: Practice, folder: Path, counts: Counter[str]) -> None:
    """Every order of the venue is in the book as taken, and none is there twice."""
    path = folder / "data" / "live" / here.venue.record.account_id / JOURNAL
    book = IntentBook(path)
    intentions: Counter[tuple[str, ...]] = Counter()
    for name in here.venue.tickets:
        intent = book.get(name)
        counts["lost"] += intent is None or intent.state != "taken"
        intentions[tuple(name.rsplit("-", 1)[0].split("-"))] += 1
    counts["economic_duplicates"] += sum(count > 1 for count in intentions.values())
    counts["undetermined_at_the_end"] += len(book.undetermined())
    counts["orders"] += len(here.venue.tickets)
    book.close()


NEVER = (
    "economic_duplicates",
    "lost",
    "limits_broken",
    "tracebacks",
    "leaked_keys",
    "standstills",
)


def schedules(number: int, seed: int, steps: int) -> dict[str, Any]:
    """The counts of so many schedules."""
    total: Counter[str] = Counter(dict.fromkeys(NEVER, 0))
    for k in range(number):
        with tempfile.TemporaryDirectory() as folder:
            counts = trading_schedule(seed + k, steps, Path(folder))
        longest = max(total["longest_seconds"], counts.pop("longest_seconds", 0))
        total.update(counts)
        total["longest_seconds"] = longest
    return dict(sorted(total.items()))


def main() -> None:
    """Print the figures; exit code 1 where something happened that must never."""
    parser = argparse.ArgumentParser(description="Random faults and kills over the live commands.")
    parser.add_argument("--schedules", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=6)
    arguments = parser.parse_args()
    figures = schedules(arguments.schedules, arguments.seed, arguments.steps)
    print(json.dumps(figures, indent=1))
    sys.exit(any(figures[name] for name in NEVER))


if __name__ == "__main__":
    main()
