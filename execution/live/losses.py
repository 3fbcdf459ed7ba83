"""Loss limits: the daily loss or the drawdown of the linked-return index halts opening orders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Protocol

import numpy as np

from execution.journal.halts import CLEARED_AUTOMATICALLY, Halt, HaltChanges, HaltJournal, HaltKind
from execution.journal.marks import EquityMark, EquityMarkJournal, ReturnIndexPoint, to_decimal
from trainingdata.instants import new_york_day

# Growth of an accepted loss, a fraction of its limit, that raises the halt again.
REHALT_LOSS_GROWTH_FRACTION = Decimal("0.25")


class LossLimits(Protocol):
    """Loss limits, as fractions of equity; a loss at a limit halts opening orders."""

    @property
    def daily_loss(self) -> float:
        """Largest loss in a day, as a fraction of the equity at the start of the day."""
        ...

    @property
    def drawdown(self) -> float:
        """Largest drawdown, as a fraction of the highest equity."""
        ...

    @property
    def drawdown_resume_fraction(self) -> float:
        """Fraction of the drawdown limit to which the drawdown must recover to end its halt."""
        ...


def record_mark_and_halts(
    book: EquityMarkJournal, halts: HaltJournal, mark: EquityMark, limits: LossLimits
) -> tuple[ReturnIndexPoint, HaltChanges]:
    """Record an equity mark, and raise or end the loss halts.

    Returns the mark's point in the return index, and the changes of halts.
    """
    latest = halts.latest_by_kind()
    last = book.index_point_before(mark.at)
    point = next_index_point(last, mark.at, mark.equity, mark.net_deposits, latest, limits)
    changes = loss_halt_changes(point, latest, limits)
    book.record_mark(mark, point)
    halts.apply_changes(changes, mark.at)
    return point, changes


def next_index_point(
    last: ReturnIndexPoint | None,
    at: np.datetime64,
    equity: Decimal | float,
    net_deposits: Decimal | float,
    halts: Mapping[HaltKind, Halt],
    limits: LossLimits,
) -> ReturnIndexPoint:
    """Return the index point of an equity mark, including the losses that a person has accepted.

    A person accepts a loss by clearing the halt that it caused. After a total loss, a new index
    starts once no `drawdown` halt is active and equity is above 0.

    last: index point of the previous mark; None for the first mark.
    equity: equity at the mark, USD.
    net_deposits: deposits less withdrawals since the previous mark, USD.
    halts: last halt of each kind.
    """
    if last is None:
        return ReturnIndexPoint.first_point(at, equity)
    drawdown = halts.get("drawdown")
    is_active = drawdown is not None and drawdown.is_active
    if not last.return_index and not is_active and (last.equity > 0 or equity > 0):
        return last.restart_index(at, equity, net_deposits)
    point = last.next_point(at, equity, net_deposits)
    if _was_cleared_since(halts.get("daily_loss"), last, at) and new_york_day(at) == new_york_day(
        last.at
    ):
        point = replace(point, accepted_daily_loss=last.daily_loss)
    if _was_cleared_since(drawdown, last, at):
        point = replace(point, accepted_drawdown=last.drawdown)
    if point.drawdown <= _drawdown_resume_level(limits):
        point = replace(point, accepted_drawdown=Decimal(0))
    return point


def loss_halt_changes(
    point: ReturnIndexPoint, halts: Mapping[HaltKind, Halt], limits: LossLimits
) -> HaltChanges:
    """Return the loss halts that end automatically, and the loss halts to raise.

    A halt is raised once the loss reaches its limit, and is not raised again while it is active.
    `daily_loss` ends at the start of the next New York date. `drawdown` ends once the drawdown is
    at most `drawdown_resume_fraction` × its limit. A total loss halts until a person clears it.

    A person may clear either halt. The loss at the last mark before the clearing then counts as
    accepted: the account is halted again only once the loss has grown by a further quarter of the
    limit. An accepted daily loss counts as accepted for that date only, an accepted drawdown until
    the drawdown has recovered to `drawdown_resume_fraction` × its limit.

    point: index point of the latest mark.
    halts: last halt of each kind.
    """
    ended: list[HaltKind] = []
    raised: dict[HaltKind, str] = {}
    day, peak = halts.get("daily_loss"), halts.get("drawdown")
    if day is not None and day.is_active and new_york_day(point.at) > new_york_day(day.raised_at):
        ended.append("daily_loss")
    if peak is not None and peak.is_active and point.drawdown <= _drawdown_resume_level(limits):
        ended.append("drawdown")
    if _may_be_raised(day, point.at, ended) and _reaches_halt_level(
        point.daily_loss, limits.daily_loss, point.accepted_daily_loss
    ):
        raised["daily_loss"] = (
            f"daily loss {point.daily_loss:.1%} of the day's first equity has reached"
            f" guards.daily_loss, {limits.daily_loss:g}"
        )
    if _may_be_raised(peak, point.at, ended) and _reaches_halt_level(
        point.drawdown, limits.drawdown, point.accepted_drawdown
    ):
        raised["drawdown"] = (
            f"drawdown {point.drawdown:.1%} from the peak has reached guards.drawdown,"
            f" {limits.drawdown:g}"
        )
    return HaltChanges(tuple(ended), raised)


def _drawdown_resume_level(limits: LossLimits) -> Decimal:
    return to_decimal(limits.drawdown) * to_decimal(limits.drawdown_resume_fraction)


def _reaches_halt_level(loss: Decimal, limit: float, let: Decimal) -> bool:
    """Return whether a loss is large enough to halt the account.

    let: part of the loss that a person has accepted, a fraction.
    """
    grown = let + REHALT_LOSS_GROWTH_FRACTION * to_decimal(limit)
    # No loss exceeds 1: a total loss halts, whatever loss was accepted before.
    return loss > let and loss >= max(to_decimal(limit), min(Decimal(1), grown))


def _may_be_raised(halt: Halt | None, at: np.datetime64, ended: list[HaltKind]) -> bool:
    """Return whether a halt may be raised.

    It may not while a halt of its kind is active, or if a person has cleared one at this instant.

    halt: last halt of the kind; None without one.
    ended: kinds of the halts that end automatically at this instant.
    """
    if halt is None or halt.kind in ended:
        return True
    return not halt.is_active and (
        halt.cleared_by == CLEARED_AUTOMATICALLY or halt.cleared_at != at
    )


def _was_cleared_since(halt: Halt | None, last: ReturnIndexPoint, at: np.datetime64) -> bool:
    """Return whether a person has cleared a halt between two equity marks.

    If the clearing has a later time than the second mark, it was timestamped by another clock, and
    False is returned.

    last: index point of the first mark.
    at: instant of the second mark.
    """
    if halt is None or halt.cleared_at is None or halt.cleared_by == CLEARED_AUTOMATICALLY:
        return False
    return bool(last.at <= halt.cleared_at <= at)
