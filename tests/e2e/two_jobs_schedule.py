"""The loop of stocks, coins and spreads in one process behind a wire that fails, and what came of
it.

All that goes wrong with the process of one job goes wrong with this one.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any

from execution.journal.cycles import read_next_cycle
from execution.live.accounts import SPREADS_JOB
from option_spreads.autoscaler.account import AccountFiles
from practice.alpaca.option_desk import SpreadTicket
from tests.e2e import trading_schedule
from tests.e2e.fault_checks import book_of_orders, differently_filled, lost_either_way
from tests.e2e.fault_runs import FaultRun, Limits
from tests.e2e.selling_schedule import MOST, RULES, UNDER, by_trade, volatility_file
from tests.e2e.trading_schedule import Trading

CAPITAL = 20_000  # USD, of the seller
POLL = 600  # seconds of the venue between two looks at the spreads
IDLE = 12  # requests for the clock, and for nothing else, of a process that waits
ENTRIES = "60,120,180,240"


class TwoJobs(Trading):
    """One account, the practice server that has it, and the process with both of its jobs."""

    def __init__(self, *words: Any, **more: Any) -> None:
        super().__init__(*words, **more)
        folder = self.place.folder
        AccountFiles(folder / "data" / "autoscaling" / "paper", CAPITAL).initialise()
        selling = (
            *(f"vix={folder / 'vix.parquet'}", f"underlying={UNDER}", f"root={UNDER}", *RULES),
            *("share_delivery=false", f"poll_interval={POLL}", f"STARTING_CAPITAL={CAPITAL}"),
            *(f"rules.entry_minutes=[{ENTRIES}]", "rules.exit_minute=300"),
            "strategies=[PUT,IRON_CONDOR]",
        )
        kept = {word.partition("=")[0]: word for word in selling}  # the last of a key counts
        quoted = ",".join(f"'{word}'" for word in kept.values())
        self.words = (*self.words, "jobs=[trade,spreads]", f"spreads=[{quoted}]")
        self._spreads_forgotten: set[str] = set()

    @property
    def tickets(self) -> dict[str, SpreadTicket]:
        """Orders of spreads at the venue."""
        return self.here.venue.options.desks[UNDER].tickets

    def start(self, *more: str, limits: Limits | None = None, calm: bool = False) -> FaultRun:
        """A new process, which has asked for nothing yet."""
        self.wire.idle = 0
        return super().start(*more, limits=limits, calm=calm)

    def is_idle(self, run: FaultRun) -> bool:
        """Whether neither job has anything to do at this instant."""
        if self.wire.idle <= IDLE or not self.journal.exists():
            return False
        following = read_next_cycle(self.journal)
        return following is not None and bool(following.due_at > self.shown())

    def forget(self) -> None:
        """The journal is about to be damaged."""
        super().forget()
        self._spreads_forgotten |= {*self.tickets}

    def note(self, body: bytes) -> None:
        """Keep an order as it leaves the process; none leaves while the kill file is there."""
        if "legs" not in json.loads(body):
            super().note(body)
            return
        self.counts["orders of spreads"] += 1
        self.counts["breaches"] += self.kill_file.exists()

    def finish(self) -> None:
        """Count what must never be, of spreads as well."""
        super().finish()
        forgotten = self._spreads_forgotten
        tickets = {name: each for name, each in self.tickets.items() if name not in forgotten}
        book = {
            name: intent
            for name, intent in book_of_orders(self.journal).items()
            if intent.job == SPREADS_JOB and name not in forgotten
        }
        filled = {name: Decimal(ticket.filled_contracts) for name, ticket in tickets.items()}
        self.counts["lost"] += lost_either_way(tickets, book)
        self.counts["differing_fills"] += differently_filled(filled, book)
        for sold, bought in by_trade(self.tickets).values():
            self.counts["duplicates"] += len(sold) > 1 or sum(bought) > sum(sold)
            self.counts["breaches"] += sum(sold) > MOST
            self.counts["spreads sold"] += 1


def going(
    folder: Path, seed: int, counts: Counter[str], **more: Any
) -> AbstractContextManager[Trading]:
    """A practice server with options at an instant, a wire before it, and nothing running yet."""
    vix = volatility_file(folder, seed)
    market = (f"options.vix={vix}", f"options.symbols=[{UNDER}]")
    return trading_schedule.going(folder, seed, counts, market=market, process=TwoJobs, **more)
