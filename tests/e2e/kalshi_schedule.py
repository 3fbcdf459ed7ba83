"""A random schedule of faults and kills over the trading of event contracts, and what came of it.

The practice venue has two synthetic markets, one of which may settle meanwhile. Its clock moves
only where the driver says so; that of each process runs ahead of this machine's as far as it.
"""

from __future__ import annotations

import json
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import requests

from event_contracts import SyntheticSessionModel
from event_contracts.simulation.synthetic import synthetic_session
from event_contracts.trading.action_log import ActionRecords
from event_contracts.trading.actions import PositionLimits, PreTradeCheck
from event_contracts.trading.endpoint import PAUSE_CODES
from event_contracts.trading.orders import EventContractOrder, MarketView, Outcome, opposite_side
from execution.journal.commands import VERBS
from execution.journal.order_store import UNKNOWN_OUTCOME_STATES
from execution.live.account_lock import JOURNAL_FILE
from foundation.clock import utc_now
from foundation.database import Database, query_rows
from practice.kalshi.orders import OrderRequest
from tests.e2e.fault_checks import book_of_orders, differently_filled, lost_either_way
from tests.e2e.fault_child import AHEAD
from tests.e2e.fault_commands import PAUSES, Commands, openings_while_paused
from tests.e2e.fault_proxy import FaultProxy
from tests.e2e.fault_runs import Door, FaultRun, FaultRuns, Place, arm_kill, watched
from tests.e2e.kalshi_desk import turned_sales
from tests.event_contracts.practice import (
    CREATE,
    KEYS,
    ORDERS,
    KalshiPractice,
    body_of,
    buying,
    kalshi_practice,
)

MARKETS = ("RAIN", "SNOW")
LONG = 400  # ticks of the market that does not settle
INTERVAL = 60  # seconds of the venue's ticks
ORDER_SECONDS = 600
LANDING = 3600
SHORTEST = 20  # characters of a line of a private key that could be no other word
STYLES = ("passive", "mid", "aggressive")
POLICIES = ("random", "random", "kelly")
KILLED = 0.5  # share of the runs without an end
# The watch halts after a loss; one of the larger there is not.
LOSSES = ("0.02", "0.95", "null")
PASSED = 0.6  # of the runs that are not killed, in which time passes
AT_ORDERS: dict[str, Any] = {"method": "POST", "path": ORDERS}
VENUE_FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "partial", "count": 2, **AT_ORDERS},
    *({"kind": kind, **AT_ORDERS} for kind in ("reject", "reject_later", "late", "drop_after")),
    *({"kind": kind} for kind in ("state", "unlisted", "other")),
    *({"kind": kind, "count": 3} for kind in PAUSE_CODES),
    {"kind": "delay", "seconds": 0.2, **AT_ORDERS},
)
DOOR = Door(
    {"KALSHI_API_KEY_ID": KEYS.key_id, "KALSHI_PRIVATE_KEY": KEYS.private_key},
    (
        KEYS.key_id,
        *(
            line
            for line in KEYS.private_key.splitlines()
            if "-" not in line and len(line) > SHORTEST
        ),
    ),
    "/trade-api",
    ORDERS,
)

BY_HAND = "by-hand"  # how ids of a person's orders begin
# A portfolio may have changed by a tenth since it was read.
ADMISSION = PreTradeCheck(PositionLimits(share=Decimal("1.1") / 4))


def breach(order: EventContractOrder, view: MarketView) -> str | None:
    """What an order that leaves would break, from the venue's own account; only an opening can.

    A resting sale leaves as a purchase of the other side that closes what is held.
    """
    closes = view.held_count(opposite_side(order.side)) - view.resting_count("BUY", order.side)
    if order.action == "SELL" or order.count <= closes:
        return None
    return ADMISSION.refusal_reason(order.action, order.side, order.price, order.count, view)


@contextmanager
def going(folder: Path, seed: int, counts: Counter[str]) -> Iterator[KalshiTrading]:
    """A practice venue, a wire before it, an account, and nothing running yet."""
    rng = random.Random(seed)
    lengths = (LONG, rng.choice((25, 60, LONG)))
    sessions = {
        name: synthetic_session(
            (seed, k), SyntheticSessionModel(steps=length, start_deviation=0.5, mispricing=0.1)
        )
        for k, (name, length) in enumerate(zip(MARKETS, lengths, strict=True))
    }
    rules: dict[str, Any] = {
        "interval": INTERVAL,
        "life": 1_000_000,
        "settlement_ticks": rng.choice((0, 0, 2)),
        # Whether an id is refused that comes twice nobody says: here it would be seen.
        "reused_ids_refused": False,
    }
    with (
        kalshi_practice(sessions=sessions, **rules) as practice,
        watched(folder, practice.url, counts, rng, seed, DOOR) as place,
    ):
        yield KalshiTrading(practice, place, _words(folder, place.wire, rng))


def _words(folder: Path, wire: FaultProxy, rng: random.Random) -> tuple[str, ...]:
    return (
        *("-m", "event_contracts.trade", f"markets=[{','.join(MARKETS)}]", "interval=0.25"),
        *(f"policy={rng.choice(POLICIES)}", f"price_style={rng.choice(STYLES)}"),
        *(f"watch.{name}={rng.choice(LOSSES)}" for name in ("drawdown", "daily_loss")),
        *(f"folder={folder / 'journals'}", f"broker.url_override={wire.url}"),
        f"broker.late_arrival_seconds={LANDING}",
    )


class KalshiTrading(FaultRuns):
    """One schedule as it goes on: the venue, the runs of the command, and what was seen.

    sent: ids of the orders that have left a process, in that order.
    """

    impatient = ("broker.read_timeout=0.5", "broker.deadline=1.5", "broker.attempts=2")

    def __init__(self, here: KalshiPractice, place: Place, words: Sequence[str]) -> None:
        super().__init__(place, words)
        self.here = here
        self.sent: list[str] = []
        self.commands = Commands(
            self.rng, MARKETS, (*VERBS, *PAUSES, *PAUSES), lambda: here.exchange.now
        )
        self._by_hand = 0
        self._turn = threading.Lock()
        place.wire.on_order = self._note

    @property
    def journal(self) -> Path:
        """The account's journal, or where none is yet."""
        found = sorted((self.place.folder / "journals").glob(f"*/{JOURNAL_FILE}"))
        return found[0] if found else self.place.folder / "journals" / JOURNAL_FILE

    def step(self) -> None:
        """Run the command over some ticks while something goes wrong, and go on to the next."""
        self.wire.danger = self.rng.choice((0.0, 0.02, 0.05, 0.15))
        self.wire.danger_of_orders = self.rng.choice((None, 0.4, 0.8))
        if self.rng.random() < 0.3:
            self.here.fault(**self.rng.choice(VENUE_FAULTS))
        if self.rng.random() < 0.2:
            self.here.pause(self.rng.choice(PAUSE_CODES))
        if self.rng.random() < 0.3:
            self.command()
        self.rng.choice((self._ordinary, self._ordinary, self._until_told))()
        if self.rng.random() < 0.3:
            self.wire.land()
        if self.rng.random() < 0.3:
            self.here.land()
        if self.rng.random() < 0.2:
            self._send_by_hand()
        if self.rng.random() < 0.2:
            self._calm_run()
        self._advance(self.rng.choice((1, 1, 2, 5)))
        self.here.resume()

    def command(self) -> None:
        """A person writes a command, whether the process runs or not."""
        self.commands.write(self.journal.parent)

    def end(self) -> None:
        """Go on on a wire that works until nothing is undetermined, and look at everything."""
        self._calm_run()
        # An order that has not arrived an hour after its expiry never arrives.
        self._advance((ORDER_SECONDS + LANDING) // INTERVAL + 2)
        self._calm_run()
        self.look()

    def look(self) -> None:
        """Compare everything that the venue has done with everything that is written down."""
        placed = [
            each
            for each in self.here.exchange.orders.values()
            if not each.client_order_id.startswith(BY_HAND)
        ]
        ours = {each.client_order_id: each for each in placed}
        book = book_of_orders(self.journal)
        with closing(Database(self.journal)) as database:
            entries = ActionRecords(database).read_entries()
        # Ids that left, orders beyond the first of an id, and ticks with more than one order.
        decided = [(each.market, each.at) for each in entries if each.client_order_id]
        ids = (self.sent, [each.client_order_id for each in placed], decided)
        self.counts["duplicates"] += sum(len(each) - len({*each}) for each in ids)
        filled = {name: each.filled_count for name, each in ours.items()}
        self.counts["lost"] += lost_either_way(ours, book)
        self.counts["differing_fills"] += differently_filled(filled, book)
        self.counts["differing_fills"] += sum(
            (book[name].state == "accepted") != (each.state == "resting")
            for name, each in ours.items()
            if name in book
        )
        self.counts["breaches"] += len(turned_sales(self.here.exchange, book))
        self.counts["breaches"] += openings_while_paused(self.journal)
        self.counts.update(self.commands.counts(self.journal))
        for (why,) in query_rows(self.journal, "SELECT why FROM halts WHERE kind = 'watch'"):
            self.counts["watch halts"] += 1
            self.counts["false_watch"] += "0.95" in why
        self.counts["undetermined_at_the_end"] += sum(
            i.state in UNKNOWN_OUTCOME_STATES for i in book.values()
        )
        self.counts["orders"] += len(ours)
        self.counts["fills"] += len(self.here.exchange.fills)
        self.counts["decisions"] += len(entries)
        self.counts.update(f"order {intent.state}" for intent in book.values())
        self.counts["markets settled"] += len(self.here.exchange.paid_settlements)

    def _ordinary(self) -> None:
        words = f"steps={self.rng.choice((2, 4, 6))}", f"seed={self.rng.randint(0, 99)}"
        self.run(*words, meanwhile=self._pass_time if self.rng.random() < PASSED else None)

    def _until_told(self) -> None:
        """It trades without an end, waits for a venue that is not there, and is told to stop.

        Or it is killed before that.
        """
        seed = self.rng.randint(0, 99)
        run = self.start(*self.impatient, "max_failed_cycles=1000", f"seed={seed}")
        if self.rng.random() < KILLED:
            self.counts[f"killed at {arm_kill(run, self.rng)}"] += 1
        before = sum(self.wire.heard.values())
        number = self.rng.randint(20, 150)
        if run.until(lambda: sum(self.wire.heard.values()) >= before + number):
            run.send(signal.SIGTERM)
            self.counts["told to stop"] += 1
        code = run.ended()
        # On a wire that fails it may not hear what became of a cancellation, and says so.
        uncertain = code == 2 and "could not cancel all orders" in run.told
        self.counts["stuck"] += code not in (0, -signal.SIGKILL) and not uncertain

    def _calm_run(self) -> None:
        """A run on a wire that works, which nobody kills."""
        self.here.clear_faults()
        self.here.resume()
        self.here.land()
        self.calm_run("steps=2")

    def _pass_time(self) -> None:
        if self.rng.random() < 0.5:
            self.command()
        self._advance(self.rng.choice((1, 2, 15)))
        self.begun(self._running)

    def _advance(self, steps: int) -> None:
        with self._turn:
            self.here.advance(steps)

    def begun(self, run: FaultRun) -> None:
        """Set a process's clock as far ahead of this machine's as the venue's is."""
        self._running = run
        ahead = (self.here.exchange.now - utc_now()) / np.timedelta64(1, "s")
        run.control.numbers[AHEAD] = int(ahead)

    def _send_by_hand(self) -> None:
        """A person's order; the venue may refuse it."""
        self._by_hand += 1
        side: Outcome = self.rng.choice(("YES", "NO"))
        name = f"{BY_HAND}-{self._by_hand}"
        price = self.rng.choice(("0.01", "0.30", "0.50", "0.99"))
        body = body_of(buying(name, self.rng.choice(MARKETS), price, 7, side))
        with suppress(requests.RequestException):  # faults also affect manual requests
            self.here.ask("POST", CREATE, body)
        self.counts["orders by hand"] += 1

    def _note(self, body: bytes) -> None:
        """Keep an order as it leaves the process, and hold it to the venue's own account."""
        request = OrderRequest.parse(json.loads(body))
        name = request.client_order_id or ""
        self.sent.append(name)
        order = request.to_limit_order(name, request.count)
        with self._turn:
            view = self.here.exchange.view(order.market)
        if why := breach(order, view):
            self.counts["breaches"] += 1
            self.counts[f"breach: {why}"] += 1
