"""Loss limits: what an account has lost today and since its peak, whatever was paid in or out.

A deposit is no profit and a withdrawal is no loss. The return between two marks is
(equity - flows) / equity before, and linked returns are an index of what the first equity became.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Protocol

import numpy as np

from execution.journal.halts import ITSELF, Halt, HaltChanges, HaltKind
from trainingdata.instants import new_york_date

_NOTHING = Decimal(0)
_ONE = Decimal(1)
# By how much of its limit a loss grows before it halts again what a person has let go on.
GROWTH = Decimal("0.25")


class LossLimits(Protocol):
    """Shares of equity whose loss halts openings; they are settings of the guards."""

    @property
    def daily_loss(self) -> float:
        """Of the day's first equity."""
        ...

    @property
    def drawdown(self) -> float:
        """Of the highest equity."""
        ...

    @property
    def resume(self) -> float:
        """Share of the drawdown limit to which the loss comes back before its halt ends."""
        ...


@dataclass(frozen=True, slots=True)
class Mark:
    """What an account was worth at an instant.

    at: by the venue's clock.
    equity: USD, cash plus positions.
    flows: USD, deposits minus withdrawals since the mark before.
    """

    at: np.datetime64
    equity: Decimal | float
    flows: Decimal | float = 0.0

    def __post_init__(self) -> None:
        if np.isnat(self.at):
            raise ValueError("a mark has no instant")
        for name in ("equity", "flows"):
            if not _exact(getattr(self, name)).is_finite():
                raise ValueError(f"{name} must be a number of USD, got {getattr(self, name)}")


def loss_of_day(marks: Sequence[Mark], now: np.datetime64) -> Decimal:
    """Share of equity lost on the New York date of `now`, below 0 for a gain.

    It counts from the last mark before that date, or from the date's first where there is none. An
    account that was worth nothing since counts from the first mark after that.

    marks: as for `loss_halts`.
    """
    return _loss_of_day(_linked(marks), now)


def drawdown(marks: Sequence[Mark]) -> Decimal:
    """Share lost since the peak, 0 … 1, by linked returns; 1 at or below an equity of 0.

    marks: as for `loss_halts`.
    """
    points = _linked(marks)
    return points[-1].drawdown if points else _NOTHING


def loss_halts(
    marks: Sequence[Mark], now: np.datetime64, settings: LossLimits, halts: Iterable[Halt]
) -> HaltChanges:
    """Which halts of losses end by themselves, and which are to be raised after that.

    A halt is raised once the loss is at its limit, and while it stands it is not raised again.
    `daily_loss` ends when a later New York date begins. `drawdown` ends once the loss from the peak
    is at `resume` of its limit or less; between the two nothing changes. An account that has lost
    everything, with equity at or below 0, has lost a share of 1 and is halted at once. What is paid
    in later begins a new index; a `drawdown` halt of before then ends by a person alone.

    A person may clear either. The loss that the person saw, at the last mark before the clearing,
    does not raise the halt again before it has grown by another quarter of the limit. That holds
    for `daily_loss` on the date of the clearing, and for `drawdown` until the loss has once come
    back to `resume` of its limit. A clearing that is stamped later than the last mark is by another
    clock than the marks: it lets nothing go on.

    The time it takes is linear in the number of marks.

    Parameters
    ----------
    marks:
        Oldest first. Whoever thins them keeps peaks and marks at or below 0, and adds what was paid
        in or out at those left out to the next that is kept.
    now:
        An instant not before the last mark.
    settings:
        The limits.
    halts:
        Those that stand, and of each kind the last that ended.

    Raises
    ------
    ValueError
        for marks that are not in their order.
    """
    points = _linked(marks)
    if not points:
        return HaltChanges()
    history = tuple(halts)
    verdicts: dict[HaltKind, _Verdict] = {
        "daily_loss": _of_the_day(points, now, settings, _last("daily_loss", history)),
        "drawdown": _from_the_peak(points, settings, _last("drawdown", history)),
    }
    return HaltChanges(
        ended=tuple(kind for kind, verdict in verdicts.items() if verdict.ends),
        raised={kind: verdict.why for kind, verdict in verdicts.items() if verdict.why},
    )


@dataclass(frozen=True, slots=True)
class _Point:
    """A mark in the index of linked returns.

    begins: instant of the first mark of an index that came after another one; none in the first.
    base: USD with which the index begins.
    index: USD that they have become; 0 where everything was lost.
    peak: of the index until then, USD.
    """

    at: np.datetime64
    begins: np.datetime64 | None
    base: Decimal
    index: Decimal
    peak: Decimal

    @property
    def drawdown(self) -> Decimal:
        return _ONE - self.index / self.peak if self.index else _ONE

    def is_of_index(self, at: np.datetime64) -> bool:
        """Whether its index had begun at an instant."""
        return self.begins is None or bool(at >= self.begins)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """Whether the halt that stands ends, and why one is raised after that; empty where none is."""

    ends: bool = False
    why: str = ""


def _exact(value: Decimal | float) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(repr(float(value)))


def _linked(marks: Sequence[Mark]) -> list[_Point]:
    """The index of linked returns at each mark; 0 where everything was lost."""
    for before, after in pairwise(marks):
        if not before.at <= after.at:
            raise ValueError(f"marks must be oldest first: {after.at} comes after {before.at}")
    points: list[_Point] = []
    begins = None
    base = index = peak = invested = _NOTHING
    unit = _ONE
    for mark in marks:
        equity = _exact(mark.equity)
        # Nothing links to an index of 0. The next begins with the first mark that is worth
        # something, or at the equity that a deposit made up while everything else was lost.
        if not index and (equity > 0 or invested > 0):
            begins = mark.at if points else None
            base = peak = invested or equity
            unit = _ONE
        flows = _exact(mark.flows) if invested else _NOTHING
        index = unit * (equity - flows)
        if equity <= 0 or index <= 0:
            index = _NOTHING
        elif flows:
            unit = index / equity
        peak = max(peak, index)
        points.append(_Point(mark.at, begins, base, index, peak))
        invested = max(equity, _NOTHING)
    return points


def _loss_of_day(points: Sequence[_Point], now: np.datetime64) -> Decimal:
    if not points:
        return _NOTHING
    last = points[-1]
    today = _date(now)
    if _date(last.at) != today:
        return _NOTHING
    if not last.index:
        return _ONE
    dates = new_york_date(np.array([point.at for point in points], dtype="datetime64[ns]"))
    earlier = points[: int(np.searchsorted(dates, today))]
    linked = earlier and earlier[-1].begins == last.begins
    base = earlier[-1].index if linked else last.base
    return _ONE - last.index / base


def _of_the_day(
    points: Sequence[_Point], now: np.datetime64, settings: LossLimits, halt: Halt | None
) -> _Verdict:
    """What becomes of `daily_loss`; halt: the last of its kind."""
    stands = halt is not None and halt.stands
    ends = halt is not None and halt.stands and bool(_date(now) > _date(halt.raised_at))
    if stands and not ends:
        return _Verdict()
    seen = None
    cleared = _cleared(halt, points[-1])
    if cleared is not None and _date(cleared) == _date(now):
        seen = _loss_of_day(_until(points, cleared), cleared)
    loss = _loss_of_day(points, now)
    limit = _exact(settings.daily_loss)
    if not _halts(loss, limit, seen):
        return _Verdict(ends)
    return _Verdict(
        ends,
        f"{loss:.1%} of the day's first equity are lost;"
        f" guards.daily_loss is {settings.daily_loss:g}",
    )


def _from_the_peak(points: Sequence[_Point], settings: LossLimits, halt: Halt | None) -> _Verdict:
    """What becomes of `drawdown`; halt: the last of its kind."""
    last = points[-1]
    limit = _exact(settings.drawdown)
    back = limit * _exact(settings.resume)
    if halt is not None and halt.stands:
        return _Verdict(ends=last.drawdown <= back and last.is_of_index(halt.raised_at))
    seen = None
    cleared = _cleared(halt, last)
    if cleared is not None:
        until = _until(points, cleared)
        if until and all(point.drawdown > back for point in points[len(until) :]):
            seen = until[-1].drawdown
    if not _halts(last.drawdown, limit, seen):
        return _Verdict()
    return _Verdict(
        why=f"{last.drawdown:.1%} are lost since the peak; guards.drawdown is {settings.drawdown:g}"
    )


def _halts(loss: Decimal, limit: Decimal, seen: Decimal | None) -> bool:
    """Whether a loss raises a halt; seen: the loss at which a person let it go on."""
    if seen is None:
        return loss >= limit
    # Nothing is lost beyond everything: that halts whatever a person saw before it.
    return loss > seen and loss >= max(limit, min(_ONE, seen + GROWTH * limit))


def _last(kind: HaltKind, halts: Iterable[Halt]) -> Halt | None:
    """The last halt of a kind."""
    found = [halt for halt in halts if halt.kind == kind]
    return max(found, key=lambda halt: halt.number, default=None)


def _cleared(halt: Halt | None, last: _Point) -> np.datetime64 | None:
    """When a person cleared a halt in the index of the last mark; none where nobody did."""
    if halt is None or halt.cleared_at is None or halt.cleared_by == ITSELF:
        return None
    if halt.cleared_at > last.at:
        return None
    return halt.cleared_at if last.is_of_index(halt.cleared_at) else None


def _until(points: Sequence[_Point], at: np.datetime64) -> Sequence[_Point]:
    """The points up to an instant."""
    return [point for point in points if point.at <= at]


def _date(at: np.datetime64) -> np.datetime64:
    """The New York date of an instant."""
    return np.datetime64(new_york_date(np.array([at]))[0])
