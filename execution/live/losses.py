"""Loss limits: halts by the daily loss and the drawdown of the linked-return index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Protocol

import numpy as np

from execution.journal.halts import AUTO, Halt, HaltChanges, HaltKind, Halts
from execution.journal.marks import EquityMark, IndexPoint, MarkBook, new_york_day, to_decimal

# Growth of an accepted loss, a fraction of its limit, that raises the halt again.
REHALT_GROWTH = Decimal("0.25")


class LossLimits(Protocol):
    """Loss limits, fractions of equity, at which opening orders are halted."""

    @property
    def daily_loss(self) -> float:
        """Largest loss in a day, a fraction of the day's first equity."""
        ...

    @property
    def drawdown(self) -> float:
        """Largest drawdown, a fraction of the highest equity."""
        ...

    @property
    def drawdown_resume_fraction(self) -> float:
        """Fraction of the drawdown limit at or below which the drawdown halt ends."""
        ...


def write_mark(
    book: MarkBook, halts: Halts, mark: EquityMark, limits: LossLimits
) -> tuple[IndexPoint, HaltChanges]:
    """Record an equity mark, and raise or clear the loss halts.

    Return the mark's index point and the changes of halts.
    """
    latest = halts.latest()
    last = book.index_point_before(mark.at)
    point = next_index_point(last, mark.at, mark.equity, mark.net_deposits, latest, limits)
    changes = loss_halts(point, latest, limits)
    book.record(mark, point)
    halts.apply_changes(changes, mark.at)
    return point, changes


def next_index_point(
    last: IndexPoint | None,
    at: np.datetime64,
    equity: Decimal | float,
    flow: Decimal | float,
    halts: Mapping[HaltKind, Halt],
    limits: LossLimits,
) -> IndexPoint:
    """Return the index point of a mark, including losses that a person has accepted.

    A person accepts a loss by clearing its halt. After a total loss, a new index starts once no
    `drawdown` halt is active and equity is above 0.

    last: point of the previous mark; None before the first.
    equity: equity at the mark, USD.
    flow: deposits less withdrawals since the previous mark, USD.
    halts: last halt of each kind.
    """
    if last is None:
        return IndexPoint.first(at, equity)
    drawdown = halts.get("drawdown")
    is_active = drawdown is not None and drawdown.is_active
    if not last.index and not is_active and (last.equity > 0 or equity > 0):
        return last.restart(at, equity, flow)
    point = last.next_point(at, equity, flow)
    if _cleared_since(halts.get("daily_loss"), last, at) and new_york_day(at) == new_york_day(
        last.at
    ):
        point = replace(point, accepted_daily_loss=last.daily_loss)
    if _cleared_since(drawdown, last, at):
        point = replace(point, accepted_drawdown=last.drawdown)
    if point.drawdown <= _back(limits):
        point = replace(point, accepted_drawdown=Decimal(0))
    return point


def loss_halts(
    point: IndexPoint, halts: Mapping[HaltKind, Halt], limits: LossLimits
) -> HaltChanges:
    """Return the loss halts to clear automatically and the loss halts to raise.

    A halt is raised once the loss reaches its limit, and is not raised again while it is active.
    `daily_loss` ends at the start of the next New York date. `drawdown` ends once the loss from the
    peak is at most `resume` × its limit. A total loss halts until a person clears it.

    A person may clear either halt. The loss at the last mark before the clearing then counts as
    accepted: the account halts again only after the loss has grown by a quarter of the limit. For
    `daily_loss` the acceptance lasts for that date, for `drawdown` until the drawdown has recovered
    to `resume` × its limit.

    point: index point of the latest mark.
    halts: last halt of each kind.
    """
    ended: list[HaltKind] = []
    raised: dict[HaltKind, str] = {}
    day, peak = halts.get("daily_loss"), halts.get("drawdown")
    if day is not None and day.is_active and new_york_day(point.at) > new_york_day(day.raised_at):
        ended.append("daily_loss")
    if peak is not None and peak.is_active and point.drawdown <= _back(limits):
        ended.append("drawdown")
    if _may_be_raised(day, point.at, ended) and _halts(
        point.daily_loss, limits.daily_loss, point.accepted_daily_loss
    ):
        raised["daily_loss"] = (
            f"daily loss {point.daily_loss:.1%} of the day's first equity has reached"
            f" guards.daily_loss, {limits.daily_loss:g}"
        )
    if _may_be_raised(peak, point.at, ended) and _halts(
        point.drawdown, limits.drawdown, point.accepted_drawdown
    ):
        raised["drawdown"] = (
            f"drawdown {point.drawdown:.1%} from the peak has reached guards.drawdown,"
            f" {limits.drawdown:g}"
        )
    return HaltChanges(tuple(ended), raised)


def _back(limits: LossLimits) -> Decimal:
    return to_decimal(limits.drawdown) * to_decimal(limits.drawdown_resume_fraction)


def _halts(loss: Decimal, limit: float, let: Decimal) -> bool:
    """Return whether a loss halts the account.

    let: loss that a person has accepted, a fraction.
    """
    grown = let + REHALT_GROWTH * to_decimal(limit)
    # No loss exceeds 1: a total loss halts, whatever loss was accepted before.
    return loss > let and loss >= max(to_decimal(limit), min(Decimal(1), grown))


def _may_be_raised(halt: Halt | None, at: np.datetime64, ended: list[HaltKind]) -> bool:
    """Return whether a halt may be raised: none of its kind is active or just cleared."""
    if halt is None or halt.kind in ended:
        return True
    return not halt.is_active and (halt.cleared_by == AUTO or halt.cleared_at != at)


def _cleared_since(halt: Halt | None, last: IndexPoint, at: np.datetime64) -> bool:
    """Return whether a person has cleared a halt between two marks.

    A clearing timestamped later than the second mark comes from another clock and accepts no loss.
    """
    if halt is None or halt.cleared_at is None or halt.cleared_by == AUTO:
        return False
    return bool(last.at <= halt.cleared_at <= at)
