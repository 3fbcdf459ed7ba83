"""The loop of stocks and coins behind a wire that fails: its process, its clock, and what came of
it.

The practice server stands on the synthetic market, and forecasts are noise, so that every instant
has orders. The server's clock moves only where the driver says so.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from execution.decision.reduction import REDUCTION_ORDER_NUMBER
from execution.journal.commands import Verb
from execution.journal.events import EventLog
from execution.journal.halts import HaltJournal
from execution.journal.rows import parse_instant
from execution.live.account_lock import JOURNAL_FILE
from execution.live.commands import COMMANDS_FOLDER
from execution.orders.orders import PROTECTIVE_LEG
from foundation.database import Database, query_rows
from tests.e2e.changed_answers import Told
from tests.e2e.fault_audit import (
    MINUTE,
    Audit,
    Moment,
    Trade,
    open_after,
    sold_beyond,
    trades_of,
    turned_positions,
)
from tests.e2e.fault_checks import Books, Sent, World, breaches, ordered
from tests.e2e.fault_commands import Commands
from tests.e2e.fault_kinds import KINDS
from tests.e2e.fault_proxy import CLOCK, Trap
from tests.e2e.fault_runs import LOOK, PATIENT, FaultRun, Limits, Place, arm_kill, watched
from tests.e2e.fault_stops import Guarding, unjustified
from tests.e2e.practice import ROOT, Practice, practising
from trainingdata.instants import format_compact_utc
from trainingdata.instruments import instrument

IMPATIENT = ("broker.read_timeout=0.5", "broker.deadline=1.5", "broker.attempts=2")
SYMBOLS = ("SYA", "SYB", "SYXUSD")


class Course(NamedTuple):
    """What schedules and kills of a timeframe go through.

    starts: of schedules, one of them each; end: of their bars.
    begin: of kills; until: of their bars.
    data: words of the server's market.
    history: days that the command asks for.
    """

    starts: tuple[str, ...]
    end: str
    begin: str
    until: str
    data: tuple[str, ...] = ()
    history: int = 90


def _of_days(time: str) -> Course:
    """A course of days, decided at a time of the day in UTC."""
    starts = tuple(f"2024-{day}Z" for day in (f"02-21T{time}", "02-22T00:00", f"02-23T{time}"))
    data = ("data.start=2023-01-03", "data.end=2024-04-12")
    begin, last = f"2024-02-26T{time}Z", f"2024-03-08T{time}Z"
    return Course((*starts, last), "2024-03-22", begin, "2024-04-05", data, 150)


_HOURS = tuple(f"2024-02-20T{time}Z" for time in ("15:00", "15:30", "17:00", "20:00"))
COURSES = {
    "1h": Course(_HOURS, "2024-02-23", _HOURS[0], "2024-02-28"),
    "15m": Course(_HOURS, "2024-02-21", "2024-02-20T18:30Z", "2024-02-22"),
    "1d": _of_days("21:00"),
    "1d fill=close": _of_days("20:45"),
}
FOREIGN = "SYC"
STRATEGY = "kelly_50"
PASSES = (20.5, 20.5, 20.5)  # seconds that pass one after the other, in which the watch reads once
PACE = 0.3  # seconds that pass with each request while the venue is slow
READS = 6.0  # seconds of `FaultRun.clock`, in which it does so at the latest
IDLE = 4  # requests for the clock, and for nothing else, of a process that waits
LONG_IDLE = 50  # the same, where it has announced nothing
ACCOUNT = "/v2/account"
SUMS = ("cash", "equity", "portfolio_value", "buying_power", "last_equity")
# What a person writes at some instants of kills, once the process waits.
PERSON: tuple[Verb, ...] = ("pause", "resume", "reduce", "exit", "resume", "flatten", "resume")
EVERY = 4
PASSWORD = "somebody:hushhush@"  # in the address of alerts; it must appear nowhere
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
        seeds = issued * 31 + table.windows.symbol_index
        move = np.array([zlib.crc32(str(s).encode()) / 2**32 - 0.5 for s in seeds])

        values = table.all_quantiles * (1 + 0.06 * move)[:, None, None]
        return replace(table, quantiles=values.astype(np.float32), name="noise")
'''


class Trading:
    """One account, the practice server that has it, and the process that trades it.

    here: the server, whose clock moves where it is told to.
    place: where the process runs.
    kinds: of what goes wrong.
    guarding: its stops and its watch; none has neither, and gets no commands.
    run: the process; none between two.
    sent: orders as they left it.
    audit: the exchange's.
    paced: whether seconds of the venue pass with its requests.
    """

    def __init__(
        self,
        here: Practice,
        place: Place,
        timeframe: str,
        kinds: Sequence[str],
        guarding: Guarding | None,
        *,
        password: bool,
    ) -> None:
        self.here = here
        self.place = place
        self.timeframe = timeframe
        self.kinds = kinds
        self.rng = place.rng
        self.wire = place.wire
        self.counts = place.counts
        self.run: FaultRun | None = None
        self.sent: list[Sent] = []
        self.equities: dict[np.datetime64, float] = {}  # last one at each instant of the exchange
        self.audit = Audit(SYMBOLS)
        self.paced = False
        self._ended: set[str] = set()
        self.guarding = guarding
        # What is drawn of stops and commands leaves what else is drawn as it is without them.
        self._drawn = guarding.rng if guarding else random.Random(0)
        self.commands = Commands(self._drawn, SYMBOLS)
        self._instants = 0
        self._before = Books()
        self._forgotten: set[str] = set()
        secret = PASSWORD if password else ""
        alerts = f"alert_url={self.wire.url.replace('http://', f'http://{secret}')}/alert"
        (place.folder / "noise.py").write_text(NOISE)
        self.words = (
            *(str(ROOT / "trade_stock_e2e.py"), "mode=paper", "bar_wait_seconds=0"),
            *(f"symbols=[{','.join(SYMBOLS)}]", f"broker.url_override={self.wire.url}"),
            *("forecaster._target_=noise.Noise", "forecaster.calibrated=false"),
            *("sizing.holding=next", f"sizing.strategy={STRATEGY}"),
            *(*_words(timeframe), f"history_days={COURSES[timeframe].history}"),
            alerts,
            *(guarding.words if guarding else ()),
        )
        self.wire.on_order = self.note
        self.wire.on_request = self.follow
        self.wire.on_alert = lambda notice: self.audit.alert(notice["kind"], notice["text"])

    @property
    def journal(self) -> Path:
        """The account's journal."""
        account = self.here.venue.record.account_id
        return self.place.folder / "data" / "live" / account / JOURNAL_FILE

    @property
    def kill_file(self) -> Path:
        """The file that stops the process."""
        return self.journal.with_name("KILL")

    def shown(self) -> np.datetime64:
        """What the venue's clock shows."""
        return self.here.venue.record.running() + np.timedelta64(self.wire.ahead, "s")

    def note(self, body: bytes) -> None:
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
                equity=venue.equity,
                cash=account.cash,
                positions=dict(account.positions),
                prices=dict(account.prices),
                filled={name: ordered(ticket).filled for name, ticket in tickets.items()},
            )
        )

    def follow(self, path: str) -> None:
        """See what a command left that was just answered; a slow venue takes its time."""
        self.equities[self.here.venue.now] = self.here.venue.equity
        for file in [*(self.journal.parent / COMMANDS_FOLDER).glob("*.answer.json")]:
            if file.name not in self._ended:
                self._ended.add(file.name)
                answer = json.loads(file.read_bytes())
                left = open_after(self.here.venue, STRATEGY, answer)
                self.counts["open_after_done"] += bool(left)
                if left:
                    sys.stderr.write(f"{answer}: open: {left}\n")
        if self.paced and path != CLOCK:
            self.here.pass_seconds(PACE)
            self.observe(PACE)

    def observe(self, seconds: float) -> None:
        """Seconds have passed at the exchange, whose audit sees what there is now."""
        for found in self.audit.observe(Moment.of(self.here.venue), seconds):
            told = f"{self.shown()} {found} {self.guarding and self.guarding.words}\n"
            sys.stderr.write(told + self.place.last_logged(8))

    def start(self, *more: str, limits: Limits | None = None, calm: bool = False) -> FaultRun:
        """A new process, in the place of one that has ended."""
        assert self.run is None
        self.audit.restart()
        words = (*self.words, *(PATIENT if calm else IMPATIENT), *more)
        self.run = FaultRun(self.place, words, limits or {})
        return self.run

    def alive(self) -> FaultRun:
        """The process, which is started where there is none."""
        return self.run or self.start("cycles=null")

    def is_idle(self, run: FaultRun) -> bool:
        """Whether it waits for an instant that has not come."""
        dues, shown = run.waits_until(), self.shown()
        if not dues or dues[-1] > shown:
            return bool(dues)
        # One that was announced before the venue's clock was set back is not announced again.
        return bool(max(dues) > shown) and self.wire.idle > LONG_IDLE

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
        return self.command(*self.words, *PATIENT, *more)

    @contextmanager
    def halts(self) -> Iterator[HaltJournal]:
        """Those of the account; of none, where it has no journal yet."""
        path = self.journal if self.journal.exists() else None
        with closing(Database(path)) as database:
            yield HaltJournal(database, EventLog(database))

    def command(self, *words: str) -> int:
        """Another command on the same files, and its exit code."""
        return FaultRun(self.place, words).ended()

    def forget(self) -> None:
        """The journal is about to be damaged: what it says now is all that will be known of it."""
        books = Books.of(self.journal)
        self._before.written |= books.written
        self._before.wanted |= books.wanted
        self.commands.forgotten |= {*self.commands.written}
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

    def step(self) -> None:
        """Go on to the next instant, at which something goes wrong."""
        kind = self.rng.choice(self.kinds)
        self.counts[f"kind {kind}"] += 1
        happening = KINDS[kind](self)
        next(happening)
        self.here.advance()
        write = self._commanded() if self.guarding else None
        self.work()
        for _ in happening:
            self.work()
        if self.rng.random() < 0.4:
            self.wire.land()
        if write is not None:
            write()
        if self.guarding:
            self.minutes(2)

    def _commanded(self) -> Callable[[], None] | None:
        """Have a person write now, while the process works or is killed; or return the writing."""

        def write() -> None:
            self.commands.write(self.journal.parent)

        moment = self._drawn.choice(("before", "during", "during", "after", "never"))
        if moment == "before":
            write()
        elif moment == "during" and self.wire.trap is not None:
            act = self.wire.trap.act

            def write_and_act() -> None:
                write()
                act()

            self.wire.trap.act = write_and_act
        elif moment == "during":
            self.wire.trap = Trap(write, "", "/v2", self._drawn.randint(1, 25))
        return write if moment == "after" else None

    def minutes(self, number: int, *, calm: bool = True) -> None:
        """Let minutes pass at this instant, mostly on a wire that works.

        calm: whether venue and wire work from now on.
        """
        if calm:
            self.wire.trap = None
            self.here.clear_faults()
        run = self.alive()
        if not self.work():
            return
        self.observe(0.0)
        for _ in range(number):
            if calm and self._drawn.random() < 0.2:
                factor = self._drawn.choice((0.5, 0.8, 1.5))
                self.wire.change = Told(ACCOUNT, _sums_times(factor), 1)
            before = self._last_reading()
            for seconds in PASSES:
                self.here.pass_seconds(seconds)
                self.wire.idle = 0
                run.until(lambda: self.wire.idle >= IDLE)
                if run.running:
                    self.observe(seconds)
            read = self._watch_reads(run, before)
            self.wire.change = None
            self.counts["minutes" if read else "minutes without a reading"] += 1
            if not run.running:
                self.gone()
                return
        if self._drawn.random() < 0.5:
            self.clear_halts()

    def clear_halts(self) -> None:
        """A person has looked at what the watch did, or was done by hand, and clears its halt."""
        with self.halts() as halts:
            for halt in halts.active():
                if halt.kind in ("positions", "symbols", "watch"):
                    halts.clear(halt.kind, "a person", self.shown())

    def _watch_reads(self, run: FaultRun, before: np.datetime64) -> bool:
        """Wait for a reading of the watch after an instant; whether there was one."""
        last = run.clock() + READS
        while run.running and run.clock() < last:
            if self._last_reading() > before:
                return True
            time.sleep(LOOK)
        return False

    def _last_reading(self) -> np.datetime64:
        """What the venue's clock showed when the watch read last."""
        readings = query_rows(self.journal, "SELECT at FROM watch")
        return parse_instant(readings[0][0]) if readings else np.datetime64(0, "ns")

    def killed_step(self, number: int) -> None:
        """Go on to the next instant; so many kills, each where it was drawn, or while it waits."""
        self.here.advance()
        self._instants += 1
        # One of the kills falls on what a person has written.
        commanded = self.guarding is not None and self._instants % EVERY == 0
        for _ in range(number - (commanded and number > 0)):
            arm_kill(self.alive(), self.rng)
            self.work()
            self.gone()
            self.counts["landed kills"] += 1
            if self.rng.random() < 0.5:
                self.wire.land()
        self.counts["stuck"] += not self.work()
        self.wire.land()
        if commanded:
            self._obeyed(killed=number > 0)
        if self.guarding:
            self.minutes(1)

    def _obeyed(self, *, killed: bool) -> None:
        """A person writes while the process waits, which may be killed over it, and is obeyed."""
        place = self._instants // EVERY
        if killed:
            arm_kill(self.alive(), self.rng)
        self.commands.write(self.journal.parent, PERSON[place % len(PERSON)])
        if killed:
            self._answered()
            self.gone()
            self.counts["landed kills"] += 1
            self.wire.land()
        self.counts["stuck"] += not self._answered()

    def _answered(self) -> bool:
        """Let the process answer what was written; whether it still runs."""
        run = self.alive()
        folder = self.journal.parent
        if run.until(lambda: not self.commands.unanswered(folder) and self.is_idle(run)):
            return True
        self.gone()
        return False

    def end(self) -> None:
        """Go on on a wire that works until everything is known, and count what must never be."""
        counts = self.counts
        if self.run is not None and self.rng.random() < 0.3:
            self.run.send(signal.SIGTERM)
            self.run.until()
        self.gone()
        self.wire.calm()
        self.here.clear_faults()
        self.here.advance()
        self.start("cycles=null", calm=True)
        counts["stuck"] += not self.work()
        if self.guarding:
            counts["stuck"] += not self._answered()
            self.minutes(3)
        self.here.advance()
        counts["stuck"] += not self.work()
        self.gone()
        # Orders keep the faults that they were sent under: positions may show their fills later.
        self.here.pass_seconds(MINUTE + 1)
        self.finish()

    def outcome(self) -> dict[str, Any]:
        """Cash, positions, and the fills of every order that the venue took.

        Fills of stops and commands count by their price, because their ids tell how often they were
        tried; fills of a decision's reductions likewise, because a command that waits may make
        the same one first.
        """
        venue = self.here.venue
        account = venue.broker.account()
        reductions: set[str] = set()
        if self.guarding:
            query = "SELECT client_order_id FROM intents WHERE role = 'reduction'"
            reductions = {name for (name,) in query_rows(self.journal, query)}
        by_name: dict[str, Any] = {}
        by_price: defaultdict[str, Decimal] = defaultdict(Decimal)
        for name, ticket in venue.tickets.items():
            fills = ordered(ticket).fills
            if not (self.guarding and (_renamed(name) or name in reductions)):
                by_name[name] = fills
                continue
            for quantity, price in fills:
                by_price[f"{ticket.order.symbol} at {price}"] += quantity
        held = {symbol: quantity for symbol, quantity in account.positions.items() if quantity}
        return {"cash": round(account.cash, 2), **held, **by_name, **by_price}

    def finish(self) -> None:
        """Let nothing run any more, and count what must never be."""
        self.gone()
        counts = self.counts
        # After a day's decision a process waits for the evening, in which its orders are sent.
        if self.timeframe == "1d" and str(self.here.venue.now)[11:13] in ("20", "21"):
            self.here.advance()
            counts["stuck"] += not self.work()
            self.gone()
        # The second cycle of an instant decides nothing, and lists what the first one filled.
        counts["stuck"] += self.alone("cycles=1") != 0
        world = self.world()
        counts.update(world.counts())
        counts.update({f"breach: {rule}": number for rule, number in breaches(world).items()})
        counts["orders"] += len(world.ours())
        counts.update(
            f"halt {kind}" for (kind,) in query_rows(self.journal, "SELECT kind FROM halts")
        )
        tickets = self.here.venue.tickets.items()
        by_hand = {t.order.symbol for name, t in tickets if name.startswith("by-hand")}
        # A journal that was set aside knew of stops that rest, and fill, at the venue, and of
        # orders that land there later.
        begun = self._before.written.items()
        late = {name for name, order in begun if order.state in ("submitting", "unknown")}
        forgotten = {
            ticket.order.symbol
            for name, ticket in tickets
            if name in late or ("-stop-" in name and name in self._forgotten)
        }
        if self.guarding:
            self._count_commands(world, by_hand)
        for why, cause, at, by in query_rows(
            self.journal,
            "SELECT why, cause, raised_at, cleared_by FROM halts JOIN halt_causes ON halt = number"
            " WHERE kind IN ('positions', 'symbols')",
        ):
            lagging = self._shown_late(at) if by == "itself" else set()
            if not by_hand | forgotten | lagging >= set(json.loads(cause)):
                counts["false_halts"] += 1
                counts[f"halt: {why[:80]}"] += 1
        open_ = [
            each for each in world.books.written.values() if each.state in ("submitting", "unknown")
        ]
        counts["undetermined_at_the_end"] += len(open_)
        counts.update(
            f"taken: {each.role}" for each in world.books.written.values() if each.was_accepted
        )

    def _shown_late(self, at: str) -> set[str]:
        """Symbols of the fills of the minute before `at`, if positions showed fills that late."""
        if not self.counts["kind late_positions"]:
            return set()
        since = str(parse_instant(at) - np.timedelta64(60, "s"))
        query = "SELECT symbol FROM fills WHERE at BETWEEN ? AND ?"
        return {symbol for (symbol,) in query_rows(self.journal, query, (since, at))}

    def _count_commands(self, world: World, by_hand: set[str]) -> None:
        counts = self.counts
        counts.update(self.commands.counts(self.journal))
        counts.update(self.audit.counts)
        trades = trades_of(self.here.venue)
        counts["turned_positions"] += turned_positions(trades)
        counts["sold_beyond"] += sold_beyond(trades, self._ordered(by_hand))
        counts["protected by a stop that filled"] += sum(
            bool(order.fills) and "-stop-" in order.name for order in world.ours()
        )
        for why, at in query_rows(
            self.journal, "SELECT why, raised_at FROM halts WHERE kind='watch'"
        ):
            capital = self.here.venue.settings.capital
            if unjustified(why, parse_instant(at), self.equities, capital):
                counts["false_watch"] += 1
                counts[f"watch: {why[:80]}"] += 1

    def _ordered(self, by_hand: Collection[str]) -> dict[tuple[str, str], Decimal]:
        """Quantities that commands may not reach, from positions as their first orders left.

        The journal tells only which command an instant belongs to.
        """
        kept = {
            format_compact_utc(parse_instant(at)): Decimal(argument) if verb == "reduce" else 0
            for at, verb, argument in query_rows(
                self.journal, "SELECT received_at, verb, argument FROM commands"
            )
        }
        ordered: dict[tuple[str, str], Decimal] = {}
        for sent in self.sent:
            trade = Trade(sent.name, sent.symbol, sent.signed)
            if trade.leg != str(REDUCTION_ORDER_NUMBER) or sent.symbol in by_hand:
                continue
            held = abs(sent.positions.get(sent.symbol, Decimal(0)))
            most = held * (1 - kept.get(trade.key[0], 0)) + instrument(sent.symbol).qty_increment
            ordered.setdefault(trade.key, most)
        return ordered


def _renamed(name: str) -> bool:
    """Whether the id of an order tells how often it was tried: a stop's, or a command's."""
    return name.rsplit("-", 2)[1] in (PROTECTIVE_LEG, str(REDUCTION_ORDER_NUMBER))


def _sums_times(factor: float) -> Callable[[Any], Any]:
    """Have an answer of the account say so many times what it has."""
    return lambda told: (
        told | {name: repr(float(told[name]) * factor) for name in SUMS if name in told}
    )


def _words(timeframe: str) -> list[str]:
    """Settings of a timeframe."""
    return f"timeframe={timeframe}".split()


@contextmanager
def going(
    folder: Path,
    seed: int,
    counts: Counter[str],
    timeframe: str = "1h",
    *,
    plain: bool = False,
    guarded: bool = True,
    kinds: Sequence[str] = tuple(KINDS),
    market: Sequence[str] = (),
    process: type[Trading] = Trading,
) -> Iterator[Trading]:
    """A practice server at an instant, a wire before it, and nothing running yet.

    plain: whether nothing about the account is drawn, and its bars are those of kills.
    guarded: whether stops, the watch and commands are drawn; the watch of kills never acts.
    kinds: of what goes wrong, one of them at each instant.
    market: more words of the server's market.
    process: what trades the account.
    """
    rng = random.Random(seed)
    course = COURSES[timeframe]
    begin, end = course.begin, course.until
    if not plain:
        begin, end = rng.choice(course.starts), course.end
        rng = random.Random(seed)
    with practising() as start:
        symbols = f"symbols=[{','.join((*SYMBOLS, FOREIGN))}]"
        words = (*_words(timeframe), *course.data, *market)
        here = start(symbols, f"start={begin[:10]}", f"end={end}", *words)
        here.advance(begin)
        with watched(folder, here.url, counts, rng, seed) as place:
            password = not plain and rng.random() < 0.3
            drawn = random.Random(f"{seed} guarding")
            guarding = Guarding.drawn(drawn, watches=not plain) if guarded else None
            one = process(here, place, timeframe, kinds, guarding, password=password)
            try:
                yield one
            finally:
                one.gone()
