"""A random schedule of faults and kills over the seller of spreads, and what came of it.

The practice server trades options on a synthetic index that wanders more or less by the seed, so
that spreads are stopped out, reach their targets, are left before the close, or settle.
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from execution.journal.order_store import PENDING_STATES
from execution.live.account_lock import JOURNAL_FILE
from foundation.compose import compose_config
from option_spreads.autoscaler.account import TRADES_FILE, AccountFiles, UnknownAccountState
from option_spreads.autoscaler.trades import CsvRow, parse_total_profit, parse_trade_rows
from option_spreads.selling.settings import SellingSettings
from option_spreads.selling.state import SellerState, read_state
from practice.alpaca.option_desk import OptionDesk, SpreadTicket
from tests.e2e.fault_checks import book_of_orders, differently_filled, lost_either_way
from tests.e2e.fault_commands import PAUSES, Commands, openings_while_paused
from tests.e2e.fault_proxy import FaultProxy
from tests.e2e.fault_runs import PATIENT, FaultRun, FaultRuns, Place, arm_kill, watched
from tests.e2e.practice import OPENING, Practice, practising
from trainingdata.bars import Bars
from trainingdata.sessions import exchange_calendar

UNDER = "SYC"
LAST = "2024-03-08"
STRATEGIES = ("PUT", "CALL", "IRON_CONDOR", "OTM_SINGLE_SIDED")
MOST = 4  # contracts of a trade
RULES = (
    *("rules.max_vix=90", "rules.min_credit=0.05", "rules.distance=0.4"),
    *("costs.commission=0.65", "costs.fee=0.05", "order_timeout=0.2", "poll_interval=0"),
    *(f"MAX_CONTRACTS={MOST}", "BOOTSTRAP_MODE=prior", "BOOTSTRAP_TRADES=4"),
)
LEAVE_AT = (300, None)  # minutes: the server's last instant before the venue's cut-off is 14:30
VENUE_FAULTS: tuple[dict[str, Any], ...] = (
    *({"kind": kind, "count": 2} for kind in ("partial", "state")),
    *({"kind": kind} for kind in ("partial", "reject", "reject_later")),
    {"kind": "skew", "seconds": 900},
    # Prices move between quote and order, which then goes on working.
    {"kind": "delay", "method": "POST", "path": "/v2/orders", "seconds": 0.2},
)
DEVIATIONS = (0.0, 0.002, 0.004)  # a bar, that the index wanders beside its own
CAPITALS = (6_000, 20_000)  # USD
CENT = 0.01
BETWEEN = 0.15  # seconds between instants that pass while the seller runs
ENTRY = re.compile(r"[A-Z_]+-\d{8}-\d{3}")  # which an order was sent for

Tickets = Mapping[str, SpreadTicket]


@contextmanager
def going(folder: Path, seed: int, counts: Counter[str]) -> Iterator[Selling]:
    """A practice server at an instant, a wire before it, an account, and nothing running yet."""
    rng = random.Random(seed)
    vix = volatility_file(folder, seed)
    market = (f"symbols=[{UNDER}]", f"options.vix={vix}", f"options.symbols=[{UNDER}]")
    prices = ("options.slippage=0.02", f"end={LAST}")
    with practising() as start:
        wandering = _wandering(seed, rng.choice(DEVIATIONS))
        here = start(*market, *prices, bars=wandering)
        here.advance(OPENING)
        first = here.venue.index
        with watched(folder, here.url, counts, rng, seed) as place:
            yield Selling(here, place, _words(folder, vix, place.wire, rng))
            counts["instants"] += here.venue.index - first + 1


class Selling(FaultRuns):
    """One schedule as it goes on: the server, the runs of the command, and what was seen."""

    impatient = ("broker.read_timeout=0.2", "broker.deadline=0.5", "broker.attempts=2")

    def __init__(self, here: Practice, place: Place, words: Sequence[str]) -> None:
        super().__init__(place, ("-m", "option_spreads.sell", *words))
        self.here = here
        self._settings = SellingSettings.from_config(compose_config("sell_spreads", list(words)))
        capital = self._settings.STARTING_CAPITAL
        folder = Path(self._settings.AUTOSCALING_DATA_DIR) / "paper"
        self._account = AccountFiles(folder, capital)
        # As `python -m option_spreads.contracts init` does.
        self._account.initialise()
        self._commands = Commands(self.rng, ())
        self._commanding: FaultRun | None = None

    def step(self) -> None:
        """Run the seller at an instant, once or more, and go on to the next."""
        began = self._now
        for _ in range(self.rng.choice((1, 1, 2))):
            self.wire.danger = self.rng.choice((0.0, 0.05, 0.15, 0.3))
            self.wire.danger_of_orders = self.rng.choice((None, 0.4, 0.8))
            if self.rng.random() < 0.2:
                self.here.fail(**self.rng.choice(VENUE_FAULTS))
            if self.rng.random() < 0.2:
                self._command()
                self._commanded()
            self.run(f"polls={self.rng.choice((1, 2, 4, 12))}", meanwhile=self._meanwhile())
            self._commanded()
            if self.rng.random() < 0.3:
                self.wire.land()
        if self.rng.random() < 0.2:
            self._look_while_calm()
        if self._now == began:
            self.here.advance()

    def end(self) -> None:
        """Go on on a wire that works until nothing is undetermined, and look at everything."""
        self._look_while_calm()
        # A day after its expiry, here a session's close, it is certain that an order never came.
        closes = exchange_calendar().closes
        later = closes[int(np.searchsorted(closes, self._now)) + 1]
        self.here.advance(f"{later}Z")
        for _ in range(2):
            self.calm_run("polls=2")
        self._look_at_books()

    finish = end

    def killed_step(self, number: int) -> None:
        """Run the seller until it was killed so often, then to its end, and go on to the next."""
        words = (*PATIENT, "polls=3")
        landed = 0
        while landed < number:
            run = self.start(*words)
            arm_kill(run, self.rng)
            landed += run.ended() < 0
            if self.rng.random() < 0.5:
                self.wire.land()
        self.counts["landed kills"] += landed
        self.counts["stuck"] += self.start(*words).ended() != 0
        self.wire.land()
        self.here.advance()

    def outcome(self) -> dict[str, Any]:
        """Cash, options held, the fills of every order that the venue took, and what was booked."""
        tickets = self._desk.tickets
        return {
            "cash": round(self.here.venue.broker.account().cash, 2),
            **{f"booked {row['Trade_ID']}": row for row in self._booked()},
            **{str(contract): number for contract, number in self._desk.option_positions().items()},
            **{
                name: (ticket.filled_contracts, ticket.fill.credit)
                for name, ticket in tickets.items()
            },
        }

    def _meanwhile(self) -> Callable[[], object] | None:
        """What happens while the seller runs: the clock moves, what was held up lands, nothing."""
        return self.rng.choice((self._cycle_time, self.wire.land, self._command, None, None))

    def _command(self, name: str = "") -> None:
        """A person pauses or resumes the seller, which runs or not; name: of one to be repeated."""
        if not self._journal.exists():
            return
        again = bool(name)
        name = name or f"c{len(self._commands.written)}"
        verb, _ = self._commands.written.setdefault(name, (self.rng.choice(PAUSES), ""))
        words = ("-m", "execution.live", verb, "--folder", str(self._journal.parent.parent))
        self._commanding = FaultRun(self.place, (*words, "--by", "Ada", "--id", name))
        if not again and self.rng.random() < 0.4:
            self._commanding.control.arm(self.rng.randint(1, 6), after=self.rng.random() < 0.5)

    def _commanded(self) -> None:
        """The person's command line ends; one that was killed is repeated."""
        while self._commanding is not None:
            code = self._commanding.ended()
            self._commanding = None
            if code < 0:
                self._command([*self._commands.written][-1])
            else:
                self.counts["stuck"] += code != 0

    def _cycle_time(self) -> None:
        for _ in range(self.rng.choice((1, 1, 3))):
            self.here.advance()
            time.sleep(BETWEEN)

    def _look_while_calm(self) -> None:
        """Let the seller find out what became of its orders."""
        self.here.clear_faults()
        self.calm_run("polls=2")

    def _look_at_books(self) -> None:
        """Compare everything that the venue has done with everything that is written down."""
        tickets = self._desk.tickets
        rows = self._booked()
        spreads = self._state().spreads
        book = book_of_orders(self._journal)
        trades = by_trade(tickets)
        known = {row["Trade_ID"] for row in rows} | {spread.trade_id for spread in spreads}
        filled = {name: Decimal(ticket.filled_contracts) for name, ticket in tickets.items()}
        self.counts["lost"] += lost_either_way(tickets, book) + len({*trades} - known)
        self.counts["differing_fills"] += differently_filled(filled, book)
        self.counts["differing_fills"] += not self._money_agrees(rows)
        for sold, bought in trades.values():
            self.counts["duplicates"] += len(sold) > 1 or sum(bought) > sum(sold)
            self.counts["breaches"] += sum(sold) > MOST
            back = sum(sold) == sum(bought)
            self.counts["spreads bought back" if back else "spreads settled"] += 1
        # A working order in the journal belongs to a spread that is still tracked.
        undetermined = sum(written.state in PENDING_STATES for written in book.values())
        self.counts["undetermined_at_the_end"] += undetermined + len(spreads)
        self.counts["orders"] += len(tickets)
        self.counts["breaches"] += openings_while_paused(self._journal)
        self.counts.update(self._commands.counts(self._journal))

    def _money_agrees(self, rows: list[CsvRow]) -> bool:
        """Whether the balance is what was booked, and that what the venue's cash says."""
        result = sum(map(parse_total_profit, rows), Decimal(0))
        costs = self._settings.costs
        contracts = sum(
            ticket.filled_contracts * len(ticket.order.legs)
            for ticket in self._desk.tickets.values()
        )
        fees = Decimal(str(costs.commission + costs.fee)) * contracts
        venue = self.here.venue
        earned = venue.broker.account().cash - venue.settings.capital
        booked = Fraction(str(self._settings.STARTING_CAPITAL)) + Fraction(result)
        try:
            balance = self._account.read_account().balance
        except UnknownAccountState:
            return False
        return balance == booked and abs(earned - float(result + fees)) < CENT / 2

    @property
    def _desk(self) -> OptionDesk:
        return self.here.venue.options.desks[UNDER]

    @property
    def _now(self) -> np.datetime64:
        return self.here.venue.now

    @property
    def _journal(self) -> Path:
        account = self.here.venue.record.account_id
        return self.place.folder / self._settings.folder / account / JOURNAL_FILE

    def _booked(self) -> list[CsvRow]:
        return parse_trade_rows((self._account.folder / TRADES_FILE).read_bytes())[1]

    def _state(self) -> SellerState:
        """What the seller's file says is open; nothing, and a fault, where it cannot be read."""
        try:
            return read_state(self._account.folder)
        except UnknownAccountState:
            self.counts["lost"] += 1
            return SellerState()


def by_trade(tickets: Tickets) -> dict[str, tuple[list[int], list[int]]]:
    """Contracts of each order that traded, by the entry that it was sent for: sold, and bought."""
    groups: dict[str, tuple[list[int], list[int]]] = {}
    for name, ticket in tickets.items():
        if ticket.filled_contracts:
            entry = ENTRY.match(name)
            sale = ticket.order.legs[0].side == "sell"
            group = groups.setdefault(entry[0] if entry else name, ([], []))
            group[0 if sale else 1].append(ticket.filled_contracts)
    return groups


def _words(folder: Path, vix: Path, wire: FaultProxy, rng: random.Random) -> list[str]:
    """Settings of the command."""
    strategies = ",".join(rng.sample(STRATEGIES, rng.choice((2, 3))))
    exit_minute = rng.choice(LEAVE_AT)
    entries = "60,120,180,240" if exit_minute else "60,120,180,240,300"
    return [
        *(f"vix={vix}", f"underlying={UNDER}", f"root={UNDER}", *RULES),
        *(f"broker.url_override={wire.url}", f"strategies=[{strategies}]"),
        # The practice server settles every expiry in cash.
        "share_delivery=false",
        *(f"rules.entry_minutes=[{entries}]", f"rules.exit_minute={exit_minute or 'null'}"),
        f"STARTING_CAPITAL={rng.choice(CAPITALS)}",
        f"AUTOSCALING_DATA_DIR={folder / 'account'}",
    ]


def volatility_file(folder: Path, seed: int) -> Path:
    """A file of a synthetic volatility index."""
    days = pd.bdate_range("2024-01-02", "2024-03-08", tz="UTC")
    levels = np.random.default_rng(seed).uniform(16, 34, len(days))
    path = folder / "vix.parquet"
    pd.DataFrame({"timestamp": days, "close": levels}).to_parquet(path)
    return path


def _wandering(seed: int, deviation: float) -> Callable[[Bars], Bars]:
    """The index with a random walk on top, of so much a bar."""

    def altered(bars: Bars) -> Bars:
        steps = np.random.default_rng(seed).standard_normal(len(bars.times)) * deviation
        values = bars.values.copy()
        walk = np.exp(np.cumsum(steps))
        values[:, :, :4] = np.round(values[:, :, :4] * walk[:, None], 2)
        return replace(bars, values=values)

    return altered
