"""The loop of stocks and coins behind a wire that fails: its process, its clock, and what came of
it.

The practice server stands on the synthetic market, and forecasts are noise, so that every instant
has orders. The server's clock moves only where the driver says so.
"""

from __future__ import annotations

import json
import random
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np

from execution.account_lock import JOURNAL
from execution.journal.events import EventLog
from execution.journal.halts import Halts
from foundation.database import Database, rows_of
from tests.e2e.fault_checks import Books, Sent, World, ordered
from tests.e2e.fault_kinds import KINDS
from tests.e2e.fault_proxy import faulty_wire
from tests.e2e.fault_runs import PATIENT, FaultRun, Limits, Place, leaking_files
from tests.e2e.practice import ROOT, Practice, practising
from trainingdata.instruments import instrument

STEPS = 4
IMPATIENT = ("broker.read_timeout=0.5", "broker.deadline=1.5", "broker.attempts=2")
SYMBOLS = ("SYA", "SYB", "SYXUSD")


@dataclass(frozen=True, slots=True)
class Course:
    """What schedules and kills of a timeframe go through.

    starts: of schedules, one of them each; end: of their bars.
    begin: of kills; until: of their bars.
    instants: at which kills are made.
    data: words of the server's market.
    history: days that the command asks for.
    """

    timeframe: str
    starts: tuple[str, ...]
    end: str
    begin: str
    until: str
    instants: int
    data: tuple[str, ...] = ()
    history: int = 90

    @property
    def words(self) -> list[str]:
        """Settings of the timeframe."""
        return f"timeframe={self.timeframe}".split()


_HOURS = ("2024-02-20T15:00Z", "2024-02-20T15:30Z", "2024-02-20T17:00Z", "2024-02-20T20:00Z")
COURSES = {
    course.timeframe: course
    for course in (
        Course("1h", _HOURS, "2024-02-23", _HOURS[0], "2024-02-28", 203),
        Course("15m", _HOURS, "2024-02-21", "2024-02-20T18:30Z", "2024-02-22", 120),
        Course(
            "1d",
            ("2024-02-21T21:00Z", "2024-02-22T00:00Z", "2024-02-23T21:00Z", "2024-03-08T21:00Z"),
            "2024-03-22",
            "2024-02-26T21:00Z",
            "2024-04-05",
            75,
            ("data.start=2023-01-03", "data.end=2024-04-12"),
            150,
        ),
        Course(
            "1d fill=close",
            ("2024-02-21T20:45Z", "2024-02-22T00:00Z", "2024-02-23T20:45Z", "2024-03-08T20:45Z"),
            "2024-03-22",
            "2024-02-26T20:45Z",
            "2024-04-05",
            60,
            ("data.start=2023-01-03", "data.end=2024-04-12"),
            150,
        ),
    )
}
HOURLY = COURSES["1h"]
FOREIGN = "SYC"
STRATEGY = "kelly_50"
ADDRESS = "http://somebody:hushhush@"  # with a password, which nothing may show
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
        issued = table.windows.issued_at.astype("datetime64[m]").astype(int)
        seeds = issued * 31 + table.windows.symbol
        move = np.array([zlib.crc32(str(s).encode()) / 2**32 - 0.5 for s in seeds])

        values = table.values * (1 + 0.06 * move)[:, None, None]
        return replace(table, quantiles=values.astype(np.float32), name="noise")
'''


class Trading:
    """One account, the practice server that has it, and the process that trades it.

    here: the server, whose clock moves where it is told to.
    place: where the process runs.
    run: the process; none between two.
    sent: orders as they left it.
    """

    def __init__(
        self, here: Practice, place: Place, course: Course = HOURLY, *, password: bool = False
    ) -> None:
        self.here = here
        self.place = place
        self.course = course
        self.rng = place.rng
        self.wire = place.wire
        self.counts = place.counts
        self.run: FaultRun | None = None
        self.sent: list[Sent] = []
        self._before = Books()
        self._forgotten: set[str] = set()
        alerts = f"alert_url={self.wire.url.replace('http://', ADDRESS)}/alert"
        (place.folder / "noise.py").write_text(NOISE)
        self.words = (
            *(str(ROOT / "trade_stock_e2e.py"), "mode=paper", "bar_patience=0"),
            *(f"symbols=[{','.join(SYMBOLS)}]", f"broker.url_override={self.wire.url}"),
            *(
                "+forecaster._target_=noise.Noise",
                "forecaster.calibrated=false",
                "sizing.holding=next",
            ),
            *(*course.words, f"history_days={course.history}"),
            f"sizing.strategy={STRATEGY}",
            *((alerts,) if password else ()),
        )
        self.wire.on_order = self._note

    @property
    def journal(self) -> Path:
        """The account's journal."""
        account = self.here.venue.record.account_id
        return self.place.folder / "data" / "live" / account / JOURNAL

    @property
    def kill_file(self) -> Path:
        """The file that stops the process."""
        return self.journal.with_name("KILL")

    def shown(self) -> np.datetime64:
        """What the venue's clock shows."""
        return self.here.venue.now + np.timedelta64(self.wire.ahead, "s")

    def _note(self, body: bytes) -> None:
        """Keep an order as it leaves the process, and the account at that moment."""
        order = json.loads(body)
        venue = self.here.venue
        account = venue.broker.account()
        tickets = dict(venue.tickets)
        quantity = Decimal(order["qty"])
        self.sent.append(
            Sent(
                name=order["client_order_id"],
                symbol=instrument(order["symbol"]).symbol,
                signed=quantity if order["side"] == "buy" else -quantity,
                at=self.shown(),
                known=order["client_order_id"] in tickets,
                killed=self.kill_file.exists(),
                auction=order["time_in_force"] in ("opg", "cls"),
                equity=account.equity,
                cash=account.cash,
                positions=dict(account.positions),
                prices=dict(account.prices),
                filled={name: ordered(ticket).filled for name, ticket in tickets.items()},
            )
        )

    def start(self, *more: str, limits: Limits | None = None, calm: bool = False) -> FaultRun:
        """A new process, in the place of one that has ended."""
        assert self.run is None
        words = (*self.words, *(PATIENT if calm else IMPATIENT), *more)
        self.run = FaultRun(self.place, words, limits or Limits())
        return self.run

    def alive(self) -> FaultRun:
        """The process, which is started where there is none."""
        return self.run or self.start("cycles=null")

    def is_idle(self, run: FaultRun) -> bool:
        """Whether it waits for an instant that has not come."""
        due = run.waits_until()
        return due is not None and bool(due > self.shown())

    def work(self) -> bool:
        """Let the process do what is due; whether it still runs."""
        run = self.alive()
        if run.until(lambda: self.is_idle(run)):
            return True
        self.gone()
        return False

    def gone(self) -> None:
        """The process has ended, or ends now."""
        if self.run is None:
            return
        if self.run.running:
            self.run.kill()
        self.run.end()
        self.wire.trap = None
        self.run = None

    def alone(self, *more: str) -> int:
        """A patient process that ends by itself, beside which nothing goes wrong; its exit code."""
        self.gone()
        run = self.start(*more, calm=True)
        run.until(lambda: False)
        code = run.end()
        self.run = None
        return code

    def has_halted(self) -> bool:
        """Whether what a person has done by hand halts the account."""
        query = "SELECT 1 FROM halts WHERE kind = 'positions' AND cleared_at IS NULL"
        return self.journal.exists() and bool(rows_of(self.journal, query))

    def set_aside(self) -> frozenset[str]:
        """Symbols that are left alone until a person has looked at them."""
        if not self.journal.exists():
            return frozenset()
        with closing(Database(self.journal)) as database:
            return Halts(database, EventLog(database)).set_aside()

    def clear(self) -> None:
        """A person has looked at what is odd."""
        if self.journal.exists():
            with closing(Database(self.journal)) as database:
                halts = Halts(database, EventLog(database))
                for halt in halts.active():
                    if halt.kind in ("positions", "symbols"):
                        halts.clear(halt.kind, "a person", self.shown())

    def command(self, *words: str) -> int:
        """Another command on the same files, and its exit code."""
        run = FaultRun(self.place, words)
        run.until(lambda: False)
        return run.end()

    def forget(self) -> None:
        """The journal is about to be damaged: what it says now is all that will be known of it."""
        books = Books.of(self.journal)
        self._before.written |= books.written
        self._before.wanted |= books.wanted
        self._forgotten |= {*books.written, *self.here.venue.tickets}

    def world(self) -> World:
        """Both sides."""
        books = Books.of(self.journal)
        books.written = self._before.written | books.written
        books.wanted = self._before.wanted | books.wanted
        return World(
            STRATEGY,
            frozenset(SYMBOLS),
            {name: ordered(ticket) for name, ticket in self.here.venue.tickets.items()},
            self.sent,
            books,
            frozenset(self._forgotten),
        )

    def end(self) -> None:
        """Go on on a wire that works until everything is known, and count what must never be."""
        counts = self.counts
        if self.run is not None and self.rng.random() < 0.3:
            self.run.send(signal.SIGTERM)
            self.run.until(lambda: False)
        self.gone()
        self.wire.calm()
        self.here.clear_faults()
        self.here.advance()
        self.start("cycles=null", calm=True)
        counts["stuck"] += not self.work()
        self.here.advance()
        counts["stuck"] += not self.work()
        self.gone()
        self.look()

    def look(self) -> None:
        """Count what must never be."""
        counts = self.counts
        # After a day's decision a process waits for the evening, in which its orders are sent.
        if self.course.timeframe == "1d" and str(self.here.venue.now)[11:13] in ("20", "21"):
            self.here.advance()
            counts["stuck"] += not self.work()
            self.gone()
        # The second cycle of an instant decides nothing, and lists what the first one filled.
        counts["stuck"] += self.alone("cycles=1") != 0
        world = self.world()
        found = world.counts()
        counts.update(found)
        counts["leaks"] += len(leaking_files(self.place.folder))
        counts["orders"] += len(world.ours())
        counts.update(f"halt {kind}" for (kind,) in rows_of(self.journal, "SELECT kind FROM halts"))
        by_hand = {
            ticket.order.symbol
            for name, ticket in self.here.venue.tickets.items()
            if name.startswith("by-hand")
        }
        for why, cause in rows_of(
            self.journal,
            "SELECT why, cause FROM halts JOIN halt_causes ON halt = number"
            " WHERE kind IN ('positions', 'symbols')",
        ):
            false = not by_hand >= set(json.loads(cause))
            counts["false_halts"] += false
            if false:
                counts[f"halt: {why[:80]}"] += 1
        open_ = [each for each in world.books.written.values() if each.state in ("sending", "open")]
        counts["undetermined_at_the_end"] += len(open_)
        counts.update(f"taken: {each.part}" for each in world.books.written.values() if each.taken)


@contextmanager
def trading(
    folder: Path,
    seed: int,
    counts: Counter[str],
    begin: str,
    end: str,
    course: Course = HOURLY,
    *,
    plain: bool = False,
) -> Iterator[Trading]:
    """A practice server at an instant, a wire before it, and nothing running yet.

    plain: whether nothing about the account is drawn.
    """
    rng = random.Random(seed)
    with practising() as start:
        symbols = f"symbols=[{','.join((*SYMBOLS, FOREIGN))}]"
        words = (*course.words, *course.data)
        here = start(symbols, f"start={begin[:10]}", f"end={end}", *words)
        here.advance(begin)
        with faulty_wire(here.url, seed) as wire:
            place = Place(folder, wire, counts, rng)
            password = not plain and rng.random() < 0.3
            one = Trading(here, place, course, password=password)
            try:
                yield one
            finally:
                one.gone()
                counts.update({f"fault {kind}": n for kind, n in wire.happened.items()})


def schedule(
    seed: int,
    steps: int,
    folder: Path,
    kinds: Sequence[str] = tuple(KINDS),
    course: Course = HOURLY,
) -> Counter[str]:
    """What came of one schedule: counts of what happened and of what must never be.

    kinds: of what goes wrong, one of them at each instant.
    """
    counts: Counter[str] = Counter(schedules=1)
    rng = random.Random(seed)
    with trading(folder, seed, counts, rng.choice(course.starts), course.end, course) as one:
        for _ in range(steps):
            kind = one.rng.choice(kinds)
            counts[f"kind {kind}"] += 1
            happening = KINDS[kind](one)
            next(happening)
            one.here.advance()
            one.work()
            for _ in happening:
                one.work()
            if one.rng.random() < 0.4:
                one.wire.land()
        one.end()
    return counts
