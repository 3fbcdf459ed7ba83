"""A live journal as drift reads it: what was decided, sent, filled, booked and held."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from operator import attrgetter
from pathlib import Path

import numpy as np

from execution.decision import Choice
from execution.journal.activities import Kind
from execution.journal.decisions import TAKEN_BACK, choice_of_entry
from execution.journal.intents import COLUMNS, Intent, intent_of
from execution.journal.migrations import rows_of
from execution.orders import Order
from foundation.database import Row
from foundation.decimals import as_written
from foundation.errors import InputError
from marketsimulator.results.drift_terms import ZERO


@dataclass(frozen=True, slots=True)
class JournaledDecision:
    """A decision as it was written down, of which nothing was taken back.

    name: its id.
    at: the instant that it decided.
    decided_at: when, by the venue's clock.
    equity: USD, of the account then.
    choices: by symbol.
    cancels: what it saw as not filled of each order that it replaces, by its id.
    positions: what was held then, signed quantities by symbol.
    """

    name: str
    at: np.datetime64
    decided_at: np.datetime64
    equity: float
    choices: Mapping[str, Choice]
    cancels: Mapping[str, Decimal]
    positions: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class JournaledFill:
    """A trade as the venue listed it.

    order: our id of its order; empty for a trade that no order of ours made.
    quantity: signed. price: USD. at: when it traded. listed_at: when it was read.
    """

    order: str
    symbol: str
    quantity: Decimal
    price: Decimal
    at: np.datetime64
    listed_at: np.datetime64


@dataclass(frozen=True, slots=True)
class JournaledActivity:
    """Something that happened beside trades.

    symbol: empty for cash alone. quantity: by which it changed a position.
    amount: USD by which it changed cash. listed_at: when it was read.
    """

    kind: Kind
    symbol: str
    quantity: Decimal
    amount: Decimal
    listed_at: np.datetime64


@dataclass(frozen=True, slots=True)
class JournaledMark:
    """What the account was worth; equity in USD, and the value of each position."""

    at: np.datetime64
    equity: float
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class JournaledPass:
    """A pass of the loop. idle: why nothing was decided; failed: what ended it."""

    began_at: np.datetime64
    ended_at: np.datetime64 | None
    idle: str
    failed: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The account as a pass read it, before anything that the pass sent.

    at: by the venue's clock.
    equity: USD, as stated.
    positions: signed quantities by symbol.
    prices: USD, of what was held and decided.
    """

    at: np.datetime64
    equity: Fraction
    positions: Mapping[str, Fraction]
    prices: Mapping[str, Fraction]

    @property
    def cash(self) -> Fraction:
        """What of the equity is no position, USD."""
        worth = (held * self.prices[symbol] for symbol, held in self.positions.items())
        return self.equity - sum(worth, ZERO)


@dataclass(frozen=True, eq=False, slots=True)
class LiveRecord:
    """Everything that drift compares, in time order.

    decisions: of the job that trades stocks and coins.
    intents: of every job, by id.
    fills, activities, marks, passes: all of the account's.
    """

    decisions: tuple[JournaledDecision, ...]
    intents: Mapping[str, Intent]
    fills: tuple[JournaledFill, ...]
    activities: tuple[JournaledActivity, ...]
    marks: tuple[JournaledMark, ...]
    passes: tuple[JournaledPass, ...]

    @property
    def symbols(self) -> tuple[str, ...]:
        """Whatever was decided, sorted."""
        return tuple(sorted({symbol for each in self.decisions for symbol in each.choices}))

    def order(self, name: str) -> Order:
        """The order of an intent.

        Raises
        ------
        InputError
            for one that the journal lacks, or that is none of a stock's or a coin's.
        """
        if name not in self.intents:
            raise InputError(f"the journal has no order {name}, which a decision replaces")
        return self.intents[name].single

    def beginning(self) -> Reading:
        """The account at the first decision."""
        return self.reading(self.decisions[0])

    def end(self, covered: Callable[[np.datetime64], bool]) -> Reading:
        """The account at the last pass that read it at a covered instant.

        What a pass sends is listed by the next one: of the last pass only what it met counts.
        """
        for each in reversed(self.passes):
            decided = [d for d in self.decisions if _within(d.decided_at, each)]
            if decided and covered(decided[0].decided_at):
                return self.reading(decided[0])
            marked = [mark for mark in self.marks if _within(mark.at, each)]
            if not decided and marked and covered(marked[0].at):
                return self._marked(marked[0])
        return self.beginning()

    def sent_before(self, instant: np.datetime64, reading: Reading) -> bool:
        """Whether orders that are decided at an instant were sent before the account was read."""
        later = [d for d in self.decisions if d.at == instant and d.decided_at >= reading.at]
        return bool(reading.at > instant) and not later

    def reading(self, decision: JournaledDecision) -> Reading:
        """The account that a decision was made for.

        Raises
        ------
        InputError
            for a position that nothing in the journal prices.
        """
        known = bisect_right(self.marks, decision.decided_at, key=attrgetter("at"))
        values = self.marks[known - 1].values if known else {}
        positions = {s: as_written(held) for s, held in decision.positions.items() if held}
        prices = {symbol: as_written(choice.price) for symbol, choice in decision.choices.items()}
        for symbol, held in positions.items():
            if symbol in prices:
                continue
            if symbol not in values:
                raise InputError(f"{decision.name}: the journal has no price of {symbol} then")
            prices[symbol] = as_written(values[symbol]) / held
        return Reading(decision.decided_at, as_written(decision.equity), positions, prices)

    def _marked(self, mark: JournaledMark) -> Reading:
        """The account at a mark, which says what positions are worth and not how many they are."""
        start = self.beginning()
        held = dict(start.positions)
        for fill in self.fills_between(start.at, mark.at):
            held[fill.symbol] = held.get(fill.symbol, ZERO) + as_written(fill.quantity)
        for each in self.activities:
            if each.symbol and start.at < each.listed_at <= mark.at:
                held[each.symbol] = held.get(each.symbol, ZERO) + as_written(each.quantity)
        positions = {symbol: quantity for symbol, quantity in held.items() if quantity}
        known = {symbol: value for symbol, value in mark.values.items() if symbol in positions}
        prices = {symbol: as_written(value) / positions[symbol] for symbol, value in known.items()}
        priced = {symbol: quantity for symbol, quantity in positions.items() if symbol in prices}
        return Reading(mark.at, as_written(mark.equity), priced, prices)

    def fills_between(self, since: np.datetime64, until: np.datetime64) -> list[JournaledFill]:
        """What an account that was read at two instants did between them."""
        # What was listed by an instant has traded by then.
        traded = bisect_right(self.fills, until, key=attrgetter("at"))
        return [
            fill
            for fill in self.fills[:traded]
            if self._is_before(fill, until) and not self._is_before(fill, since)
        ]

    def _is_before(self, fill: JournaledFill, at: np.datetime64) -> bool:
        """Whether an account that was read at an instant held what a fill did.

        A practice venue stamps a fill with the instant of its bar, which may be before the pass
        that sent the order: an order of ours fills after it was sent.
        """
        intent = self.intents.get(fill.order)
        if intent is not None and intent.sent_at >= at:
            return False
        return bool(fill.at < at or fill.listed_at <= at)


def read_journal(path: Path, job: str) -> LiveRecord:
    """What a journal says; a loop may be writing it meanwhile.

    job: whose decisions and passes.

    Raises
    ------
    InputError
        for a file that cannot be read, whose content makes no sense, or in which nothing was
        decided.
    """
    if not path.is_file():
        raise InputError(f"journal: {path} is no file; it is the journal.sqlite of an account")
    try:
        record = _record(path, job)
    except InputError:
        raise
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise InputError(f"journal: {path} says what makes no sense: {error}") from error
    if not record.decisions:
        raise InputError(f"journal: in {path} the job {job} has decided nothing")
    return record


def _record(path: Path, job: str) -> LiveRecord:
    decisions = rows_of(
        path,
        "SELECT id, at, decided_at, equity, choices, cancels, positions FROM decisions"
        " WHERE job = ? AND ended != ? ORDER BY at, rowid",
        (job, TAKEN_BACK),
    )
    passes = rows_of(
        path,
        "SELECT began_at, ended_at, idle, failed FROM cycles WHERE job = ? ORDER BY number",
        (job,),
    )
    marks = rows_of(path, "SELECT at, equity, positions FROM marks ORDER BY at")
    fills = rows_of(
        path,
        "SELECT client_order_id, symbol, qty, price, at, listed_at FROM fills"
        " WHERE ground > 0 ORDER BY at, rowid",
    )
    activities = rows_of(
        path,
        "SELECT kind, symbol, qty, amount, listed_at FROM activities"
        " WHERE ground > 0 ORDER BY listed_at, rowid",
    )
    intents = rows_of(path, f"SELECT {COLUMNS} FROM intents ORDER BY rowid")
    return LiveRecord(
        decisions=_last_of_each([_decision(row) for row in decisions]),
        intents={intent.client_order_id: intent for intent in map(intent_of, intents)},
        fills=tuple(_fill(row) for row in fills),
        activities=tuple(_activity(row) for row in activities),
        marks=tuple(
            JournaledMark(_instant(at), equity, json.loads(values)) for at, equity, values in marks
        ),
        passes=_passes(passes),
    )


def _last_of_each(decisions: Iterable[JournaledDecision]) -> tuple[JournaledDecision, ...]:
    """Of decisions of one instant the last one."""
    by_instant = {decision.at: decision for decision in decisions}
    return tuple(by_instant.values())


def _passes(rows: Sequence[Row]) -> tuple[JournaledPass, ...]:
    """A pass without an end, which was killed, lasted at most until the next one."""
    begun = [_instant(row[0]) for row in rows]
    passes = []
    for number, (_, ended_at, idle, failed) in enumerate(rows):
        later = begun[number + 1] if number + 1 < len(rows) else None
        ended = later if ended_at is None else _instant(ended_at)
        passes.append(JournaledPass(begun[number], ended, idle, failed))
    return tuple(passes)


def _within(at: np.datetime64, each: JournaledPass) -> bool:
    return bool(each.began_at <= at and (each.ended_at is None or at <= each.ended_at))


def _decision(row: Row) -> JournaledDecision:
    name, at, decided_at, equity, choices, cancels, positions = row
    entries = json.loads(choices)
    return JournaledDecision(
        name=name,
        at=_instant(at),
        decided_at=_instant(decided_at),
        equity=equity,
        choices={entry["symbol"]: choice_of_entry(entry) for entry in entries},
        cancels={key: Decimal(left) for key, left in json.loads(cancels).items()},
        positions={key: Decimal(held) for key, held in json.loads(positions).items()},
    )


def _fill(row: Row) -> JournaledFill:
    order, symbol, quantity, price, at, listed_at = row
    if price is None:
        raise ValueError(f"a fill of {symbol} at {at} has no price")
    return JournaledFill(
        order, symbol, Decimal(quantity), Decimal(price), _instant(at), _instant(listed_at)
    )


def _activity(row: Row) -> JournaledActivity:
    kind, symbol, quantity, amount, listed_at = row
    return JournaledActivity(kind, symbol, Decimal(quantity), Decimal(amount), _instant(listed_at))


def _instant(text: str) -> np.datetime64:
    return np.datetime64(text, "ns")
