"""A random schedule of faults and kills over `trade_stock_e2e.py mode=paper`, and what came of it.

The practice server stands on the synthetic market, and forecasts are noise, so that every instant
has orders.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from execution.account_lock import JOURNAL
from execution.intents import IntentBook
from foundation.database import Database
from tests.e2e.fault_proxy import faulty_wire
from tests.e2e.hurried_runs import HurriedRuns
from tests.e2e.practice import OPENING, ROOT, Practice, practising

NEVER = (
    "economic_duplicates",
    "lost",
    "limits_broken",
    "tracebacks",
    "leaked_keys",
    "standstills",
)
STEPS = 6
IMPATIENT = ("broker.read_timeout=0.5", "broker.deadline=1.5", "broker.attempts=2")
CAP = 0.6  # of equity, that a symbol may have
GROSS = 4.0
DRIFT = 0.05  # what prices may do to both between decisions
SYMBOLS = "SYA,SYB,SYC"
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


def schedule(seed: int, steps: int, folder: Path) -> Counter[str]:
    """What came of one schedule: counts of what happened and of what must never be."""
    rng = random.Random(seed)
    counts: Counter[str] = Counter(schedules=1)
    (folder / "noise.py").write_text(NOISE)
    with practising() as start:
        here = start(f"symbols=[{SYMBOLS}]")
        here.advance(OPENING)
        with faulty_wire(here.url, seed) as wire:
            words = [
                *(str(ROOT / "trade_stock_e2e.py"), "mode=paper"),
                *(f"symbols=[{SYMBOLS}]", f"broker.url_override={wire.url}", "bar_patience=0"),
                *("forecaster=noise:Noise", "forecaster.calibrated=false", "sizing.holding=next"),
            ]
            passes = HurriedRuns(words, IMPATIENT, wire, folder, rng, counts)
            for _ in range(steps):
                wire.danger = rng.choice((0.0, 0.05, 0.15, 0.3))
                for _ in range(rng.choice((1, 1, 2))):
                    passes.run()
                    if rng.random() < 0.3:
                        wire.land()
                _look_at_limits(here, counts)
                here.advance()
            passes.calm_run()
            _look_at_limits(here, counts)
            _look_at_books(here, folder, counts)
            counts.update({f"fault {kind}": count for kind, count in wire.happened.items()})
    return counts


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
    database = Database(path)
    book = IntentBook(database)
    intentions: Counter[tuple[str, ...]] = Counter()
    for name in here.venue.tickets:
        intent = book.get(name)
        counts["lost"] += intent is None or not intent.taken
        intentions[tuple(name.rsplit("-", 1)[0].split("-"))] += 1
    counts["economic_duplicates"] += sum(count > 1 for count in intentions.values())
    counts["undetermined_at_the_end"] += len(book.undetermined())
    counts["orders"] += len(here.venue.tickets)
    database.close()
