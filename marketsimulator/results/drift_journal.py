"""A live journal as drift reads it: what was decided, sent, filled, booked and held."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from operator import attrgetter
from pathlib import Path

import numpy as np

from execution.journal.activities import ALL_TIME, BookingRow, FillRow, bookings_of, fills_of
from execution.journal.decisions import DecisionRow, decisions_of
from execution.journal.intents import Intent, intents_of
from execution.journal.marks import AccountMark, marks_of
from execution.journal.migrations import as_it_is_today
from execution.journal.passes import PassRow, passes_of
from execution.orders import Order
from foundation.decimals import as_written
from foundation.errors import InputError
from marketsimulator.results.drift_terms import ZERO


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

    decisions: tuple[DecisionRow, ...]
    intents: Mapping[str, Intent]
    fills: tuple[FillRow, ...]
    activities: tuple[BookingRow, ...]
    marks: tuple[AccountMark, ...]
    passes: tuple[PassRow, ...]

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

    def reading(self, decision: DecisionRow) -> Reading:
        """The account that a decision was made for.

        Raises
        ------
        InputError
            for a position that nothing in the journal prices.
        """
        known = bisect_right(self.marks, decision.decided_at, key=attrgetter("at"))
        values = self.marks[known - 1].positions if known else {}
        positions = {s: as_written(held) for s, held in decision.positions.items() if held}
        prices = {symbol: as_written(choice.price) for symbol, choice in decision.choices.items()}
        for symbol, held in positions.items():
            if symbol in prices:
                continue
            if symbol not in values:
                raise InputError(f"{decision.name}: the journal has no price of {symbol} then")
            prices[symbol] = as_written(values[symbol]) / held
        return Reading(decision.decided_at, as_written(decision.equity), positions, prices)

    def _marked(self, mark: AccountMark) -> Reading:
        """The account at a mark, which says what positions are worth and not how many they are."""
        start = self.beginning()
        held = dict(start.positions)
        for fill in self.fills_between(start.at, mark.at):
            held[fill.symbol] = held.get(fill.symbol, ZERO) + as_written(fill.quantity)
        for each in self.activities:
            if each.symbol and start.at < each.listed_at <= mark.at:
                held[each.symbol] = held.get(each.symbol, ZERO) + as_written(each.quantity)
        positions = {symbol: quantity for symbol, quantity in held.items() if quantity}
        known = {symbol: value for symbol, value in mark.positions.items() if symbol in positions}
        prices = {symbol: as_written(value) / positions[symbol] for symbol, value in known.items()}
        priced = {symbol: quantity for symbol, quantity in positions.items() if symbol in prices}
        return Reading(mark.at, as_written(mark.equity), priced, prices)

    def fills_between(self, since: np.datetime64, until: np.datetime64) -> list[FillRow]:
        """What an account that was read at two instants did between them."""
        # What was listed by an instant has traded by then.
        traded = bisect_right(self.fills, until, key=attrgetter("at"))
        return [
            fill
            for fill in self.fills[:traded]
            if self._is_before(fill, until) and not self._is_before(fill, since)
        ]

    def _is_before(self, fill: FillRow, at: np.datetime64) -> bool:
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
    with as_it_is_today(path) as database:
        record = LiveRecord(
            decisions=_last_of_each(decisions_of(database, job, ALL_TIME)),
            intents={intent.client_order_id: intent for intent in intents_of(database)},
            fills=tuple(fills_of(database, ALL_TIME)),
            activities=tuple(bookings_of(database)),
            marks=tuple(marks_of(database, ALL_TIME)),
            passes=_ended(passes_of(database, job)),
        )
    if not record.decisions:
        raise InputError(f"journal: in {path} the job {job} has decided nothing")
    return record


def _last_of_each(decisions: Iterable[DecisionRow]) -> tuple[DecisionRow, ...]:
    """Of decisions of one instant the last one, in the order of their instants."""
    by_instant = {decision.at: decision for decision in decisions}
    return tuple(by_instant[at] for at in sorted(by_instant))


def _ended(passes: Sequence[PassRow]) -> tuple[PassRow, ...]:
    """A pass without an end, which was killed, lasted at most until the next one."""
    ends = [*(each.began_at for each in passes[1:]), None]
    return tuple(
        replace(each, ended_at=later) if each.ended_at is None else each
        for each, later in zip(passes, ends, strict=False)
    )


def _within(at: np.datetime64, each: PassRow) -> bool:
    return bool(each.began_at <= at and (each.ended_at is None or at <= each.ended_at))
