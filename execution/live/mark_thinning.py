"""Marks that losses are judged by, without those that no judgement can rest on any more."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

import numpy as np

from execution.journal.halts import Halt
from execution.live.losses import Mark
from trainingdata.instants import new_york_date


def thinned(marks: Sequence[Mark], halts: Iterable[Halt]) -> list[Mark]:
    """The marks without which `loss_halts`, `drawdown` and `loss_of_day` would say something else.

    Those of the last mark's New York date all stay. Before it, equity alone moves the index of
    linked returns while nothing is paid in or taken out: of such a stretch the first, the highest
    and the last mark say everything. A stretch ends, too, where a halt was raised or ended, since
    what a person saw then is asked for later, and where the account was worth nothing.

    marks: oldest first.
    halts: as for `loss_halts`, by the clock of the marks.
    """
    if not marks:
        return []
    dates = new_york_date(np.array([mark.at for mark in marks], dtype="datetime64[ns]"))
    today = int(np.searchsorted(dates, dates[-1]))
    instants = sorted(
        at for halt in halts for at in (halt.raised_at, halt.cleared_at) if at is not None
    )
    kept: list[Mark] = []
    stretch: list[Mark] = []
    for mark in marks[:today]:
        if stretch and _parts(stretch[-1], mark, instants):
            kept += _corners(stretch)
            stretch = []
        stretch.append(mark)
    return [*kept, *_corners(stretch), *marks[today:]]


def _parts(before: Mark, mark: Mark, instants: Sequence[np.datetime64]) -> bool:
    """Whether a stretch ends between two marks."""
    if mark.flows or before.equity <= 0 or mark.equity <= 0:
        return True
    return bisect_left(instants, before.at) != bisect_left(instants, mark.at)


def _corners(stretch: Sequence[Mark]) -> list[Mark]:
    """The first, the highest and the last mark of a stretch, each once."""
    if not stretch:
        return []
    highest = max(range(len(stretch)), key=lambda number: stretch[number].equity)
    return [stretch[number] for number in sorted({0, highest, len(stretch) - 1})]
